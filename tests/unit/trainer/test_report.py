"""The termination message: always JSON, always within the kubelet's bound."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from posttrain_api.artifact import ArtifactSummary, BaseReference, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MAX_MESSAGE_BYTES, Failure, PreflightReport, Report, TrainingReport
from posttrain_api.v1alpha1.health import CONDITIONS, HealthFinding
from posttrain_api.v1alpha1.training_run import Recipe, TrainingRunSpec
from posttrain_api.v1alpha1.training_run_status import (
    DataReport,
    Estimate,
    EvaluationResult,
    ModelReport,
    NamedCheckpoint,
)
from posttrain_trainer import report
from posttrain_trainer.refusal import Refused

DIGEST = "sha256:" + 64 * "a"


def training(modules: list[str]) -> Report:
    found = TrainingReport(
        artifact=ArtifactSummary(
            uri=f"pvc://artifacts/{480 * 'x'}/{40 * 'n'}/{folder_name(DIGEST)}",
            digest=DIGEST,
            weights_digest=DIGEST,
            size_bytes=10**12,
            kind="lora",
            rank=512,
            target_modules=modules,
            base=BaseReference(uri="pvc://" + 500 * "b", digest=DIGEST),
        ),
        steps_completed=10_000_000,
        steps_planned=10_000_000,
        metrics=dict.fromkeys(("loss", "tokenAccuracy", "entropy", "learningRate", "gradNorm"), 1.2345678901234567),
        evaluation=EvaluationResult(before={"loss": None}, after={"loss": 1.0}, rows=500),
        dataset_digest=DIGEST,
        evaluation_digest=DIGEST,
        libraries=report.libraries(),
    )
    return Report(uid="uid", recipe_digest=DIGEST, training=found)


CHECKPOINTS = [
    NamedCheckpoint(name=name, digest=DIGEST)
    for name in (*(f"step-{10_000_000 - place}" for place in range(8, 0, -1)), "final", "best")
]


def measured(name_length: int, *, count: int = 16) -> Report:
    """A result with checkpoints and as many metrics as the API takes, with names of this length."""
    found = training(["q_proj"])
    assert found.training is not None
    metrics = {f"lm-eval:{place:0{name_length}}": 0.12345678901234567 for place in range(count)}
    result = EvaluationResult(before=metrics, after=metrics, rows=500, rows_digest=DIGEST)
    return found.replace(training=found.training.replace(evaluation=result, checkpoints=CHECKPOINTS))


FINDINGS = [
    HealthFinding(rule=rule.value, message=rule.value + (512 - len(rule.value)) * "ä", step=10_000_000, stopped=False)
    for rule in CONDITIONS.values()
]


def watched(found: Report) -> Report:
    """The result as it would be of a method that learns from sixteen rewards and breaks every rule of health."""
    assert found.training is not None
    rewards = {f"{kind}.{place:040}": 0.12345678901234567 for kind in ("reward", "rewardStd") for place in range(16)}
    metrics = {**found.training.metrics, **rewards}
    return found.replace(training=found.training.replace(metrics=metrics, health=FINDINGS))


def recipe(found: Report) -> tuple[Recipe, str]:
    """A recipe that would have this result, and the URI of its base."""
    assert found.training is not None
    artifact, metrics = found.training.artifact, list(found.training.evaluation.after)
    spec = {
        "method": "grpo" if found.training.health else "sft",
        "baseModel": {"uri": artifact.base.uri, "tuned": True},
        "environment": {"dataset": {"uri": "pvc://data/rows.jsonl"}, "rewards": [{"builtin": "exact"}]},
        "evaluation": {"metrics": metrics, "lmEval": {"uri": "pvc://data/tasks"}},
        "output": {"uri": artifact.uri.rsplit("/", 2)[0]},
    }
    return TrainingRunSpec.model_validate(spec).recipe(), artifact.base.uri


def received(found: Report) -> TrainingReport | None:
    """What the operator reads of a result; None where preflight refuses a recipe that could have it."""
    try:
        report.check_room(*recipe(found))
    except Refused:
        return None
    written = report.message(found)
    assert len(written) <= MAX_MESSAGE_BYTES
    return Report.model_validate_json(written).training


def test_whatever_is_measured_fits_or_is_refused_beforehand() -> None:
    outcomes = set()
    for length in range(1, 65):
        read = received(measured(length))
        if read is None:
            outcomes.add("refused")
            continue
        assert read.evaluation.after == pytest.approx(measured(length).training.evaluation.after, rel=1e-5)
        outcomes.add("whole" if read.checkpoints == CHECKPOINTS else "without some checkpoints")
    assert outcomes == {"whole", "without some checkpoints", "refused"}


def test_whatever_is_wrong_with_its_health_fits_or_is_refused_beforehand() -> None:
    fitting = [read for length in range(1, 65) if (read := received(watched(measured(length, count=10)))) is not None]
    assert 0 < len(fitting) < 64
    wanted = [(finding.rule, finding.step) for finding in FINDINGS]
    assert all([(finding.rule, finding.step) for finding in read.health] == wanted for read in fitting)


def test_metrics_of_single_rewards_go_first() -> None:
    plain = training(["q_proj"])
    assert plain.training is not None
    found = watched(plain)
    assert found.training is not None
    told = found.replace(training=found.training.replace(health=FINDINGS[:1]))
    read = Report.model_validate_json(report.message(told)).training
    assert read is not None
    assert read.metrics == plain.training.metrics
    assert read.health[0].message.startswith("EntropyCollapsedä")


def preflight(mask: str, warnings: list[str], modules: Sequence[str] = ()) -> Report:
    estimate = Estimate(
        rows=10**9,
        trained_tokens=10**14,
        total_tokens=10**15,
        total_steps=10**7,
        trainable_parameters=10**12,
        memory_gib=123456.789,
        unpriced="\x00" * 40,
    )
    model = ModelReport(
        parameters=10**12,
        layers=1000,
        hidden_size=10**5,
        vocabulary=10**6,
        tuned_modules=dict.fromkeys(modules, 1000),
    )
    data = DataReport(rows_read=10**9, end_of_turn="\x00" * 64, default_system_prompt="\x00" * 200)
    found = PreflightReport(
        estimate=estimate, model=model, data=data, mask=mask, warnings=warnings, dataset_digest=DIGEST
    )
    return Report(uid="uid", recipe_digest=DIGEST, preflight=found)


def failure(message: str, checkpoints: Sequence[NamedCheckpoint] = ()) -> Report:
    found = Failure(reason=Reason.DATASET_INVALID, message=message, checkpoints=list(checkpoints))
    return Report(uid="uid", recipe_digest=DIGEST, failure=found)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(training([]), id="a result"),
        pytest.param(training([f"a_very_long_name_of_a_layer_{place}" for place in range(500)]), id="many layers"),
        pytest.param(training(["ä" * 5000]), id="a long name of a layer"),
        pytest.param(preflight("⟦" * 600, []), id="a mask of wide characters"),
        pytest.param(preflight("\x00" * 600, ["\x00" * 3000] * 40), id="characters that JSON writes at length"),
        pytest.param(
            preflight("\x00" * 600, ["odd"] * 8, [f"{place}{'ä' * 100}" for place in range(32)]), id="names of layers"
        ),
        pytest.param(failure("row 1: " + "\N{PILE OF POO}" * 5000), id="a long message"),
        pytest.param(failure('"\\' * 5000), id="a message of quotation marks"),
        pytest.param(failure("ä" * 5000, CHECKPOINTS), id="a long message and checkpoints"),
    ],
)
def test_a_message_is_json_within_the_bound(content: Report) -> None:
    written = report.message(content)
    assert len(written) <= MAX_MESSAGE_BYTES
    read = Report.model_validate_json(written)
    assert (read.uid, read.recipe_digest) == (content.uid, content.recipe_digest)
    if content.training is not None and read.training is not None:
        assert read.training.artifact.digest == content.training.artifact.digest
    if content.failure is not None and read.failure is not None:
        assert read.failure.message.startswith(content.failure.message[:500])
        assert read.failure.checkpoints == content.failure.checkpoints


@pytest.mark.parametrize("content", [training(["q_proj"]), preflight("⟦x⟧", ["odd"]), failure("row 3: wrong")])
def test_what_fits_is_left_alone(content: Report) -> None:
    assert Report.model_validate_json(report.message(content)) == content


def test_a_message_goes_to_its_file_or_to_the_last_line(tmp_path: Path, capsys: Any) -> None:
    report.write(failure("wrong"), tmp_path / "message")
    report.write(failure("wrong"), None)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads((tmp_path / "message").read_bytes())
