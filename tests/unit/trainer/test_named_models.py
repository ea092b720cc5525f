"""What a recipe names beside its base is checked by preflight: a teacher, reward models, adapters to merge."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.artifact import BaseReference, Manifest, base_digest, files_digest, payload
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, Source
from posttrain_trainer import preflight
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop

DIGEST = f"sha256:{'0' * 64}"


@dataclass(frozen=True)
class Given:
    """What a run is made from."""

    base: Path
    data: Path
    folder: Path
    """Empty, for what the run names."""

    def model(self, name: str = "other") -> Path:
        """A copy of the base."""
        return shutil.copytree(self.base, self.folder / name)

    def adapter(self, name: str, base: Path | None = None, **changes: Any) -> Source:
        """An adapter's folder with its manifest, of the base or of another one."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_text(name)
        found = payload(folder)
        manifest = Manifest(
            kind="lora",
            method="sft",
            base=BaseReference(uri=f"file://{base or self.base}", digest=base_digest(base or self.base)),
            rank=4,
            target_modules=["down_proj", "q_proj"],
            files=found,
            weights_digest=files_digest(found),
            end_of_turn_token_ids=[258],
            dtype="float32",
        ).replace(**changes)
        (folder / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True))
        return Source(run=name, uri=f"file://{folder}", digest=manifest.digest, kind="lora")


Make = Callable[[Given], RunConfig]


@pytest.fixture
def given(base: Path, tmp_path: Path) -> Given:
    folder = tmp_path / "named"
    folder.mkdir()
    return Given(base, builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(20)), folder)


def distilled(given: Given, teacher: Path) -> RunConfig:
    block = {"teacher": {"uri": f"file://{teacher}"}}
    return builders.run(given.base, given.data, method="distill", distill=block)


def from_another_run(given: Given, teacher: Path) -> RunConfig:
    source = Source(run="big", uri=f"file://{teacher}", digest=DIGEST, base_digest=DIGEST, kind="lora")
    block = {"teacher": {"fromRun": {"name": "big"}}}
    config = builders.run(given.base, given.data, method="distill", distill=block)
    return config.replace(sources={"distill.teacher": source})


def merged(given: Given, *adapters: Source, **block: Any) -> RunConfig:
    runs = [{"name": adapter.run} for adapter in adapters]
    config = builders.run(given.base, given.data, method="merge", tuning={}, merge={"runs": runs, **block})
    return config.replace(sources={f"merge.runs.{place}": adapter for place, adapter in enumerate(adapters)})


def best_of(given: Given, reward_model: Path) -> RunConfig:
    rewards = [{"builtin": "exact"}, {"model": {"fromRun": {"name": "judge"}}}]
    environment = {"dataset": {"uri": f"file://{given.data}"}, "chatTemplate": {"inline": builders.CHATML}}
    config = builders.run(
        given.base, given.data, method="bestOf", tuning={}, environment=environment | {"rewards": rewards}
    )
    source = Source(run="judge", uri=f"file://{reward_model}", digest=DIGEST, kind="reward-model")
    return config.replace(sources={"environment.rewards.1": source})


def renamed_token(given: Given) -> Path:
    """A model whose tokenizer has another word."""
    folder = given.model()
    words = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(words.replace("<|im_start|>", "<|begin|>"))
    return folder


def padded_vocabulary(given: Given) -> Path:
    """A model that scores more tokens than its tokenizer has."""
    import safetensors.torch

    file = given.model() / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].repeat(2, 1)
    safetensors.torch.save_file(weights, file)
    return file.parent


def another_base(given: Given) -> Path:
    folder = given.model()
    (folder / "added_tokens.json").write_text("{}")
    return folder


REFUSALS: dict[str, tuple[Make, Reason, str]] = {
    "no teacher": (
        lambda given: distilled(given, given.folder / "none"),
        Reason.MODEL_NOT_FOUND,
        "/none: there is no such folder",
    ),
    "a teacher with another vocabulary": (
        lambda given: distilled(given, renamed_token(given)),
        Reason.TEACHER_INVALID,
        "/other: the teacher has another vocabulary: name a teacher of the base's own family in distill.teacher",
    ),
    "a teacher of another run with another vocabulary": (
        lambda given: from_another_run(given, renamed_token(given)),
        Reason.TEACHER_INVALID,
        "/other: the teacher has another vocabulary",
    ),
    "a teacher that scores more tokens": (
        lambda given: distilled(given, padded_vocabulary(given)),
        Reason.TEACHER_INVALID,
        "/other: the teacher scores 520 tokens and the base 260: name a teacher",
    ),
    "a reward model that is not there": (
        lambda given: best_of(given, given.folder / "judge"),
        Reason.MODEL_NOT_FOUND,
        "/judge: there is no such folder",
    ),
    "adapters of two bases": (
        lambda given: merged(given, given.adapter("a"), given.adapter("b", another_base(given))),
        Reason.ADAPTERS_DIFFER,
        "merge.runs: a was trained on file:///",
    ),
    "adapters of another base than the run's": (
        lambda given: merged(
            given, given.adapter("a", another_base(given)), given.adapter("b", given.folder / "other")
        ),
        Reason.BASE_MISMATCH,
        "and the adapter was trained on sha256:",
    ),
    "an adapter that was changed": (
        lambda given: merged(given, given.adapter("a"), given.adapter("b").replace(digest=DIGEST)),
        Reason.DIGEST_MISMATCH,
        "/b: holds sha256:",
    ),
    "a rank that no layer has": (
        lambda given: merged(given, given.adapter("a"), given.adapter("b"), combination="ties", rank=33),
        Reason.INVALID_SPEC,
        "merge.rank is 33, and layer model.layers.0.mlp.down_proj of file:///",
    ),
}


@pytest.mark.parametrize(("make", "reason", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_does_not_fit_is_refused(
    given: Given, places: Places, stop: Stop, make: Make, reason: Reason, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        preflight.preflight(make(given), places, stop)
    assert (refused.value.reason, message in str(refused.value)) == (reason, True), str(refused.value)


def test_what_fits_passes_and_is_in_memory(given: Given, places: Places, stop: Stop) -> None:
    teacher, judge = given.model("teacher"), given.model("judge")
    for make in (distilled, from_another_run):
        assert preflight.preflight(make(given, teacher), places, stop).estimate.trained_tokens == 19 * 256
    assert preflight.preflight(best_of(given, judge), places, stop).estimate.trained_tokens == 0
    runs = (given.adapter("a"), given.adapter("b"))
    for block in ({}, {"rank": 32}):
        found = preflight.preflight(merged(given, *runs, **block), places, stop)
        assert (found.estimate.total_steps, found.estimate.unpriced) == (0, None)
