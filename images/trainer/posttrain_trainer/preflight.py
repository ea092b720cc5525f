"""Preflight: everything that can be known of a run without a GPU, and the row that shows what will be learned."""

import os
import uuid
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MASK_CLOSE, MASK_OPEN, MAX_MASK_CHARACTERS, PreflightReport, RunConfig
from posttrain_api.v1alpha1.methods import RL
from posttrain_api.v1alpha1.training_run_status import Estimate
from posttrain_trainer import (
    adapters,
    estimate,
    facts,
    harness,
    hyperparameter_ranges,
    measurable,
    prompts,
    report,
    task,
)
from posttrain_trainer.examples import Example
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rewards import check, tools
from posttrain_trainer.rewards.check import Line
from posttrain_trainer.rl import shape
from posttrain_trainer.scoring import Scorer
from posttrain_trainer.task import Task
from posttrain_trainer.template import ChatFormat

PREFLIGHT_FILE = "preflight.json"
_MAX_WARNINGS = 8
"""A status holds so many; the file holds all."""
_NUM_MASKS = 5


def preflight(config: RunConfig, places: Places, stop: Stop) -> PreflightReport:
    """Check a run, write its preflight.json into the output; Refused says what is wrong."""
    recipe = config.recipe
    output = places.path(recipe.output.uri)
    check_writable(output, recipe.output.uri)
    prepared = task.prepare(config, places, stop)
    measurable.check(recipe, prepared)
    shape.check(recipe, prepared)
    if recipe.environment.tools is not None:
        tools.check(recipe.environment.tools, places, prepared.chat)
    harness.check(recipe.evaluation.lm_eval, recipe.evaluation.metrics, places)
    adapters.check(config, places, prepared.base)
    rewards, doubts = _rewards(config, places, prepared)
    computed = estimate.estimate(recipe, prepared, config.machine)
    warnings = [*prepared.warnings, *doubts, *_unusual(config, prepared, computed)]
    masks = _masks(prepared)
    found = PreflightReport(
        estimate=computed,
        model=facts.model(prepared.base, recipe.tuning),
        data=prepared.data,
        mask=masks[0],
        warnings=warnings[:_MAX_WARNINGS],
        dataset_digest=prepared.dataset_digest,
    )
    stop.check("in preflight")
    folder = output / config.name / config.uid
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report.write_json(
            folder / PREFLIGHT_FILE, found.to_json() | _at_full_length(prepared, masks, warnings, rewards)
        )
    except OSError as error:
        raise unwritable(recipe.output.uri, folder, error) from error
    return found


def _unusual(config: RunConfig, prepared: Task, computed: Estimate) -> list[str]:
    return [
        *shape.warnings(config.recipe, prepared),
        *estimate.warnings(computed, config.machine),
        *hyperparameter_ranges.warnings(config.recipe),
    ]


def _rewards(config: RunConfig, places: Places, prepared: Task) -> tuple[list[Line], list[str]]:
    """What right and cunning answers score, and what is doubtful of it; Refused where a method would learn to cheat."""
    recipe = config.recipe
    if recipe.method not in (*RL, "bestOf", "sft") or not recipe.environment.rewards:
        return [], []
    asked = prepared.prompts or measurable.prompts(prepared)
    scorer = Scorer(config, places, None)
    try:
        return check.check(scorer, asked, recipe.environment, seed=recipe.hyperparameters.seed), []
    except Refused as error:
        if recipe.method == "sft":
            return [], [str(error)]
        raise
    finally:
        scorer.close()


def _at_full_length(prepared: Task, masks: list[str], warnings: list[str], rewards: list[Line]) -> dict[str, Any]:
    """What preflight.json holds beyond the report."""
    return {
        "warnings": warnings,
        "masks": masks,
        "problems": list(prepared.problems),
        "rewards": [line.to_json() for line in rewards],
        "heldOutDigest": prepared.held_out_digest,
    }


def _masks(prepared: Task) -> list[str]:
    rows = [*prepared.training, *prepared.held_out][:_NUM_MASKS]
    texts = [row if isinstance(row, Example) else prompts.text_of(row) for row in rows]
    return [mask(prepared.chat, text) for text in texts]


def check_writable(folder: Path, uri: str) -> None:
    """Refused where no file can be written below the output, now and not after hours of training."""
    trial = folder / f".posttrain-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with trial.open("xb") as file:
            file.write(b"posttrain")
            os.fsync(file.fileno())
        trial.unlink()
    except OSError as error:
        raise unwritable(uri, folder, error) from error


def unwritable(uri: str, folder: Path, error: OSError) -> Refused:
    """What to say where an output cannot be written."""
    return Refused(
        Reason.OUTPUT_UNWRITABLE,
        f"output {uri}: {folder} cannot be written: {error.strerror or error}: "
        "check the claim's access mode, its free space and the pod's user",
    )


def mask(chat: ChatFormat, example: Example) -> str:
    """A row as the trainer sees it, what the loss counts between MASK_OPEN and MASK_CLOSE, shortened to what fits."""
    runs = list(_runs(chat, example))
    room = max(MAX_MASK_CHARACTERS // max(len(runs), 1) - 2, 8)
    text = "".join(
        f"{MASK_OPEN}{_shortened(text, room)}{MASK_CLOSE}" if is_trained else _shortened(text, room)
        for is_trained, text in runs
    )
    return text if len(text) <= MAX_MASK_CHARACTERS else text[: MAX_MASK_CHARACTERS - 1] + "…"


def _runs(chat: ChatFormat, example: Example) -> Iterator[tuple[bool, str]]:
    pairs = zip(example.trained, example.token_ids, strict=True)
    for is_trained, group in groupby(pairs, key=lambda pair: bool(pair[0])):
        yield is_trained, chat.tokenizer.decode([token for _, token in group], skip_special_tokens=False)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room // 2]}…{text[len(text) - room + room // 2 + 1 :]}"
