"""A run whose reward attacks at every third prompt: each attack costs its answers, with a reason, and no more."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.unit.trainer import builders

from posttrain_trainer import task, training
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rl.curriculum import Lessons

CODE = Path(__file__).parent / "hostile" / "rewards.py"
TRAP = """
import rewards

def score(completions, attack):
    (name, *others) = set(attack)
    if name and not others:
        getattr(rewards, name)()
    return [len(text) / 8 for text in completions]
"""
TIMED_OUT, DENIED = "timed out after 1 s", r"raised PermissionError: \[Errno 1?[13]\]"
ATTACKS = {
    "fork_bomb": TIMED_OUT,
    "fork_bomb_that_leaves": TIMED_OUT,
    "runs_away": "ended with exit code 0 before it answered",
    "thread_bomb": "raised RuntimeError: can't start new thread",
    "allocates": "reached the memory limit of 2,048 MiB",
    "allocates_in_processes": f"reached the memory limit of 2,048 MiB|{TIMED_OUT}",
    "loops": TIMED_OUT,
    "exits": "ended with exit code 0 before it answered",
    "raises_system_exit": "raised SystemExit",
    "crashes": "was ended by SIGSEGV",
    "recurses": "raised RecursionError",
    "ignores_signals": TIMED_OUT,
    "kills_itself": "was killed by SIGKILL",
    "prints": TIMED_OUT,
    "fills_the_disk": f"wrote more than 256 MiB of files|{TIMED_OUT}",
    "writes_a_long_file": "raised OSError: .* File too large",
    "changes_its_code": DENIED,
    "traces_its_parent": DENIED,
    "kills_its_parent": DENIED,
    "leaves_its_namespace": DENIED,
    "closes_everything": ".",
}
"""Function of the hostile code -> what is said of it."""
GROUP = 4


def test_each_of_twenty_attacks_costs_its_answers_and_no_more(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "config-maps" / "hostile"
    folder.mkdir(parents=True)
    shutil.copy(CODE, folder)
    (folder / "trap.py").write_text(TRAP)
    held_out = builders.json_lines(tmp_path / "held-out.jsonl", [{"prompt": "Say what?", "attack": ""}])
    rows = [{"prompt": f"Say {place}", "attack": name} for place, name in enumerate(_attacks())]
    config = builders.rl_run(
        base,
        builders.json_lines(tmp_path / "rows.jsonl", rows),
        environment={
            "rewards": [{"python": {"configMap": {"name": "hostile"}, "entrypoint": "trap:score"}, "timeoutSeconds": 1}]
        },
        grpo={"groupSize": GROUP, "maxCompletionTokens": 4, "overlongBufferTokens": 0},
        hyperparameters={"epochs": 1, "effectiveBatchSize": GROUP, "learningRate": 1e-3},
        evaluation={"dataset": {"uri": f"file://{held_out}"}, "maxCompletionTokens": 4},
    )
    places = Places(claims=tmp_path / "claims", config_maps=tmp_path / "config-maps")
    config = config.replace(recipe=_in_an_order_that_is_borne(config, places))
    report = training.train(config, places, Progress("double"), Stop())

    assert report.steps_completed == len(rows)
    lines = (places.path(report.artifact.uri) / "rollouts.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    attacked = {row["attack"]: _of(answers, place) for place, row in enumerate(rows, start=1)}
    assert {name: len(attacked[name]) for name in ATTACKS} == dict.fromkeys(ATTACKS, GROUP)
    reasons = {name: {one.get("failed", {}).get("score", "") for one in attacked[name]} for name in ATTACKS}
    unlike = {name: found for name, found in reasons.items() if not _all_say(ATTACKS[name], found)}
    assert unlike == {}
    assert {one["score"] for name in ATTACKS for one in attacked[name]} == {None}
    hit = {one["row"] for name in ATTACKS for one in attacked[name]}
    assert all(one["score"] is not None for one in answers if one["row"] not in hit)
    assert not list(_zombies())


def _of(answers: list[dict[str, Any]], row: int) -> list[dict[str, Any]]:
    return [one for one in answers if one["row"] == row]


def _all_say(wanted: str, found: set[str]) -> bool:
    return all(re.search(wanted, text) for text in found)


def _attacks() -> Iterator[str]:
    for name in ATTACKS:
        yield from (name, "", "")


def _in_an_order_that_is_borne(config: Any, places: Places) -> Any:
    """The recipe with a seed by which no three attacks follow each other: that would end the run."""
    for seed in range(200):
        numbers = config.recipe.hyperparameters.replace(seed=seed)
        recipe = config.recipe.replace(hyperparameters=numbers)
        prepared = task.prepare(config.replace(recipe=recipe), places, Stop())
        prompts = [row for row in prepared.training if isinstance(row, Prompt)]
        order = "".join("x" if one.columns["attack"] else "." for one in Lessons(prompts, seed=seed).take(len(prompts)))
        if "xxx" not in order:
            return recipe
    raise AssertionError("no such order")


def _zombies() -> Iterator[int]:
    """Children of this process that have ended and are not waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == os.getpid():
            yield int(path.parent.name)
