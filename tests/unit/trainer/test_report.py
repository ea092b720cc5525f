"""The termination message: always JSON, always within the kubelet's bound."""

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain_api.artifact import ArtifactSummary, BaseReference
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MAX_MESSAGE_BYTES, Failure, PreflightReport, Report, TrainingReport
from posttrain_api.v1alpha1.training_run_status import Estimate, EvaluationResult
from posttrain_trainer import report

DIGEST = "sha256:" + 64 * "a"


def training(modules: list[str]) -> Report:
    found = TrainingReport(
        artifact=ArtifactSummary(
            uri="pvc://artifacts/" + 480 * "x",
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


def preflight(mask: str, warnings: list[str]) -> Report:
    estimate = Estimate(rows=1, trained_tokens=1, total_tokens=1, total_steps=1, trainable_parameters=1, memory_gib=1.0)
    found = PreflightReport(estimate=estimate, mask=mask, warnings=warnings, dataset_digest=DIGEST)
    return Report(uid="uid", recipe_digest=DIGEST, preflight=found)


def failure(message: str) -> Report:
    return Report(uid="uid", recipe_digest=DIGEST, failure=Failure(reason=Reason.DATASET_INVALID, message=message))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(training([]), id="a result"),
        pytest.param(training([f"a_very_long_name_of_a_layer_{place}" for place in range(500)]), id="many layers"),
        pytest.param(training(["ä" * 5000]), id="a long name of a layer"),
        pytest.param(preflight("⟦" * 600, []), id="a mask of wide characters"),
        pytest.param(preflight("\x00" * 600, ["\x00" * 3000] * 40), id="characters that JSON writes at length"),
        pytest.param(failure("row 1: " + "\N{PILE OF POO}" * 5000), id="a long message"),
        pytest.param(failure('"\\' * 5000), id="a message of quotation marks"),
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


@pytest.mark.parametrize("content", [training(["q_proj"]), preflight("⟦x⟧", ["odd"]), failure("row 3: wrong")])
def test_what_fits_is_left_alone(content: Report) -> None:
    assert Report.model_validate_json(report.message(content)) == content


def test_a_message_goes_to_its_file_or_to_the_last_line(tmp_path: Path, capsys: Any) -> None:
    report.write(failure("wrong"), tmp_path / "message")
    report.write(failure("wrong"), None)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads((tmp_path / "message").read_bytes())
