"""Named results from the middle of a training: whole, few, without a trace in the result, and there after a failure."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM

from posttrain_api.artifact import MANIFEST_FILE, Manifest, differences, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Report, RunConfig, TrainingReport
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_operator import followed_run
from posttrain_trainer import __main__ as command
from posttrain_trainer import run, training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop

NUMBERS = {"maxSteps": 5, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128, "scheduler": "constant"}
EVERY_STEP = Checkpoints(every_steps=1, keep=2)
STOPPING = {"metrics": ["loss"], "earlyStopping": {"metric": "loss", "patience": 2, "everySteps": 1}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.json_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", builders.exchanges(24))


def config(base: Path, rows: Path, rate: float | None = None, **spec: Any) -> RunConfig:
    """A run that publishes every step; `rate` may be higher than the API lets anybody ask for."""
    numbers = NUMBERS | spec.pop("hyperparameters", {})
    found = builders.run(base, rows, hyperparameters=numbers, **spec).replace(checkpoints=EVERY_STEP)
    if rate is None:
        return found
    recipe = found.recipe
    wild = recipe.hyperparameters.replace(learning_rate=rate)
    return found.replace(recipe=recipe.replace(hyperparameters=wild))


def manifests(folder: Path) -> dict[str, Manifest]:
    """Digest -> manifest of all that is published in a run's folder, each of which is whole."""
    found = {}
    for path in folder.iterdir():
        manifest = Manifest.model_validate_json((path / MANIFEST_FILE).read_bytes())
        assert (path.name, list(differences(path, manifest.files))) == (folder_name(manifest.digest), [])
        found[manifest.digest] = manifest
    return found


@dataclass(frozen=True)
class Published:
    """A training of five steps that published each."""

    config: RunConfig
    claims: Path
    report: TrainingReport
    counts: list[int]
    """Artifacts that were there at each step."""

    @property
    def folder(self) -> Path:
        return self.claims / "out" / "double"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({"lora": {"rank": 4, "dropout": 0.2, "dora": True}}, id="dora"),
        pytest.param({"lora": {"rank": 4, "dropout": 0.2, "init": "pissa"}}, id="pissa"),
    ],
)
def published(request: Any, base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    claims = tmp_path_factory.mktemp("claims")
    left = claims / "out" / "double" / f".unpublished-{builders.UID}-0"
    left.mkdir(parents=True)
    (left / "adapter_model.safetensors").write_text("half of what a killed process was writing")
    counts: list[int] = []

    class Counting(Progress):
        def step(self, *numbers: Any, **others: Any) -> None:
            super().step(*numbers, **others)
            counts.append(len(list(left.parent.glob("sha256-*"))))

    chosen = config(base, rows, tuning=request.param)
    report = training.train(chosen, Places(claims=claims), Counting("double"), Stop())
    return Published(chosen, claims, report, counts)


def test_the_newest_steps_are_published_whole(published: Published) -> None:
    found, result = manifests(published.folder), published.report.artifact.digest
    names = {named.name: named.digest for named in published.report.checkpoints}
    assert list(names) == ["step-4", "step-5", "final"]
    assert names["step-5"] == names["final"] == result
    assert found.keys() == set(names.values()), "older steps are removed, and nothing is half done"
    assert published.counts == [0, 1, 2, 2, 2], "they are removed at once; in the first step the rate is still 0"
    assert [each.result for each in found[names["step-4"]].probes] != [each.result for each in found[result].probes]
    written = json.loads((published.folder / folder_name(result) / "report.json").read_bytes())
    assert written["training"] == published.report.to_json()


def test_the_training_does_not_notice(published: Published, tmp_path: Path) -> None:
    plain = published.config.replace(checkpoints=None)
    report = training.train(plain, Places(claims=tmp_path), Progress("double"), Stop())
    assert (report.artifact.digest, report.checkpoints) == (published.report.artifact.digest, [])


def test_a_checkpoint_answers_as_its_manifest_says(published: Published, base: Path) -> None:
    folder = published.folder / folder_name(published.report.checkpoints[0].digest)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    if manifest.kind == "model":
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder)
    else:
        loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    builders.check_probes(loaded.eval(), manifest)


def test_the_operator_finds_a_checkpoint_by_its_name(published: Published) -> None:
    report = published.report
    for named in report.checkpoints:
        found = followed_run.checkpoint(report.artifact, named.digest)
        folder = Places(claims=published.claims).path(found.uri)
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        assert (manifest.digest, manifest.kind, manifest.base) == (named.digest, found.kind, found.base)


def test_what_was_there_before_is_never_removed(base: Path, rows: Path, tmp_path: Path) -> None:
    """A run that was deleted and created anew: what the first one published may be served."""
    first = config(base, rows)
    before = training.train(first, Places(claims=tmp_path), Progress("double"), Stop())
    again = first.replace(checkpoints=Checkpoints(every_steps=1, keep=1))
    after = training.train(again, Places(claims=tmp_path), Progress("double"), Stop())
    assert [named.name for named in after.checkpoints] == ["step-5", "final"]
    assert manifests(tmp_path / "out" / "double").keys() == {named.digest for named in before.checkpoints}


def test_where_the_best_is_the_result_the_last_is_published_too(base: Path, rows: Path, tmp_path: Path) -> None:
    wild = {"maxSteps": 12, "learningRate": 1.0, "warmupSteps": 0}
    progress = Progress("double")
    chosen = config(base, rows, hyperparameters=wild, evaluation=STOPPING)
    report = training.train(chosen, Places(claims=tmp_path), progress, Stop())
    measured = [entry["heldOut.loss"] for entry in progress.history]
    best = measured.index(min(measured)) + 1
    names = {named.name: named.digest for named in report.checkpoints}
    assert report.stopped_early
    assert best == len(measured) - 2
    assert list(names) == [f"step-{best + 1}", f"step-{best + 2}", "final", "best"]
    assert names["best"] == report.artifact.digest != names["final"] == names[f"step-{best + 2}"]
    folder = tmp_path / "out" / "double"
    assert manifests(folder).keys() == set(names.values())
    written = json.loads((folder / folder_name(names["best"]) / "report.json").read_bytes())
    assert written["training"]["stoppedEarly"]
    assert written["earlyStopping"] == {"metric": "loss", "bestStep": best, "bestValue": min(measured)}


def test_the_result_has_everything_beside_its_proof_also_where_a_step_was_it(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    """The best step is one that `keep` kept: its folder becomes the result's."""
    wild = {"maxSteps": 12, "learningRate": 1.0, "warmupSteps": 0}
    chosen = config(base, rows, hyperparameters=wild, evaluation=STOPPING)
    chosen = chosen.replace(checkpoints=Checkpoints(every_steps=1, keep=8))
    report = training.train(chosen, Places(claims=tmp_path), Progress("double"), Stop())
    names = {named.name: named.digest for named in report.checkpoints}
    steps = [name for name, digest in names.items() if digest == report.artifact.digest and name != "best"]
    assert len(steps) == 1
    folder = tmp_path / "out" / "double" / folder_name(report.artifact.digest)
    assert {"README.md", "metrics.jsonl", "report.json", "samples.jsonl"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("early", [False, True], ids=["steps", "the best too"])
def test_what_a_training_that_diverges_has_published_stays(base: Path, rows: Path, tmp_path: Path, early: bool) -> None:
    numbers = {"maxSteps": 8, "warmupSteps": 5}  # the first step has a rate of 0: it changes nothing
    evaluation = STOPPING if early else {"metrics": ["loss"]}
    wild = config(base, rows, 1e6, hyperparameters=numbers, tuning={"full": {}}, evaluation=evaluation)
    progress = Progress("double")
    with pytest.raises(
        Refused, match=r"the loss is not a number any more: lower hyperparameters\.learningRate"
    ) as found:
        training.train(wild, Places(claims=tmp_path), progress, Stop())
    assert found.value.reason == Reason.TRAINING_DIVERGED
    assert [named.name for named in progress.checkpoints] == (["step-2", "best"] if early else ["step-2"])
    assert manifests(tmp_path / "out" / "double").keys() == {named.digest for named in progress.checkpoints}


def test_weights_that_are_no_numbers_after_the_last_step_are_not_published(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    wild = config(base, rows, 1e12, hyperparameters={"maxSteps": 1, "warmupSteps": 0}, tuning={"full": {}})
    with pytest.raises(Refused, match=r"not (a number|numbers) any more: lower hyperparameters\.learningRate") as found:
        training.train(wild, Places(claims=tmp_path), Progress("double"), Stop())
    assert found.value.reason == Reason.TRAINING_DIVERGED
    assert list((tmp_path / "out" / "double").iterdir()) == []


class StoppedAfter(Stop):
    """A request to end that comes with a step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def check(self, where: str) -> None:
        self.requested = self._folder.is_dir() and len(list(self._folder.iterdir())) == 2
        super().check(where)


def outcome(chosen: RunConfig, folder: Path, stop: Stop) -> Report:
    """What the trainer's command line reports."""
    (folder / "run.json").write_text(json.dumps(chosen.to_json()))
    arguments = ["--config", str(folder / "run.json"), "--claims-root", str(folder)]
    return run.outcome(command.parser().parse_args(arguments), stop)[0]


def test_the_report_of_a_stopped_run_names_what_it_has_published(base: Path, rows: Path, tmp_path: Path) -> None:
    """Measuring for early stopping, which looks for the signal, comes after a step is published."""
    chosen = config(base, rows, evaluation=STOPPING)
    failure = outcome(chosen, tmp_path, StoppedAfter(tmp_path / "out" / "double")).failure
    assert failure is not None
    assert failure.reason == Reason.TRAINER_STOPPED
    names = [named.name for named in failure.checkpoints]
    assert len(names) == 2
    assert failure.message.endswith(
        f"; published before: {', '.join(names)}, which AdapterDeployments load by uri and digest only"
    )


def test_the_report_of_a_diverged_run_says_that_there_is_nothing(base: Path, rows: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(base, tmp_path / "base")
    weights = safetensors.torch.load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    safetensors.torch.save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    failure = outcome(config(broken, rows).replace(checkpoints=None), tmp_path, Stop()).failure
    assert failure is not None
    assert (failure.reason, failure.checkpoints) == (Reason.TRAINING_DIVERGED, [])
    assert failure.message == (
        "at step 1 of 5: the loss is not a number any more: lower hyperparameters.learningRate; nothing was published: "
        "spec.checkpoints publishes the model every so many steps"
    )
