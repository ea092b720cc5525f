"""What no run can rely on is refused: functions that fail, waver or are slow; and preflight says so."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders, judged
from tests.unit.trainer.rewarded import NUMBERS, Given

from posttrain_api.conditions import Reason
from posttrain_trainer import preflight
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rewards import candidates
from posttrain_trainer.rewards.check import Line

PYTHON = """
import random

def honest(prompts, completions, gold, **columns):
    return [float(answer == right) for answer, right in zip(completions, gold)]

def chance(prompts, completions, gold, **columns):
    return [float(answer == right) + random.random() / 9 for answer, right in zip(completions, gold)]

def words(prompts, completions, gold, **columns):
    return [float(answer.split()[0] == right) for answer, right in zip(completions, gold)]

def upper(prompts, completions, gold, **columns):
    return [float(answer == right.strip()) for answer, right in zip(completions, gold)]

def text(prompts, completions, gold, **columns):
    return ["1.0" if answer == right else "0.0" for answer, right in zip(completions, gold)]
"""


def tried(function: str, golds: Sequence[str | None], tmp_path: Path, **options: Any) -> list[Line]:
    folder = tmp_path / "config-maps" / "mine"
    folder.mkdir(parents=True)
    (folder / "rewards.py").write_text(PYTHON)
    reward = {"python": {"configMap": {"name": "mine"}, "entrypoint": f"rewards:{function}"}}
    return Given(golds, reward).lines(Places(config_maps=folder.parent), **options)


def test_an_honest_function_passes(tmp_path: Path) -> None:
    assert tried("honest", [*NUMBERS, None], tmp_path, max_call_seconds=30)[0].mean == 1


@pytest.mark.parametrize(
    ("function", "golds", "problem"),
    [
        ("chance", NUMBERS, r"chance: scores [0-9.]+ and then [0-9.]+ for "),
        ("words", NUMBERS, r"words: fails on an empty answer: .*IndexError"),
        ("upper", [*NUMBERS, None], r"upper: fails on an empty answer: .*'NoneType'"),
        ("text", NUMBERS, r"text: fails on the right answer: .*"),
    ],
)
def test_a_function_that_no_run_can_rely_on_is_refused(
    tmp_path: Path, function: str, golds: Sequence[str | None], problem: str
) -> None:
    with pytest.raises(Refused, match=f"^environment.rewards {problem}") as refused:
        tried(function, golds, tmp_path, max_call_seconds=30)
    assert refused.value.reason == Reason.REWARD_INVALID


def test_a_function_that_takes_longer_than_it_may_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"honest: one call takes [0-9.e-]+ s, and at most 0.001 s may be") as refused:
        tried("honest", NUMBERS, tmp_path, max_call_seconds=0.001)
    assert refused.value.reason == Reason.REWARD_INVALID


def test_a_program_is_tried_with_others_and_not_with_other_names() -> None:
    reward = {"builtin": "unit_tests"}
    golds = [f"def add(values):\n    return sum(values) + {number}  # and no 7" for number in range(3)]
    columns = [{"tests": f"assert add([1, 2]) == {3 + number}"} for number in range(3)]
    found = [line.candidate for line in Given(golds, reward, columns=columns).lines(max_call_seconds=30)]
    assert found == [candidates.RIGHT, *(kind for kind in candidates.CHEATS if kind not in candidates.NO_PROGRAMS)]


@pytest.mark.parametrize("method", ["grpo", "bestOf", "sft"])
def test_preflight_refuses_what_would_be_learned_by_cheating(
    base: Path, tmp_path: Path, places: Places, stop: Stop, method: str
) -> None:
    with judged.judge({"anywhere": lambda answer, gold, _: float(gold in answer)}) as url:
        config = run(base, tmp_path, method, {"http": {"url": f"{url}/anywhere"}})
        if method == "sft":
            said = preflight.preflight(config, places, stop).warnings
            assert any("'several answers' scores 1" in sentence for sentence in said)
            return
        with pytest.raises(Refused, match=r"environment.rewards http: 'several answers' scores 1") as refused:
            preflight.preflight(config, places, stop)
    assert refused.value.reason == Reason.REWARD_INVALID


def test_preflight_writes_down_what_each_kind_of_answer_scores(
    base: Path, tmp_path: Path, places: Places, stop: Stop
) -> None:
    config = run(base, tmp_path, "grpo", {"builtin": "gsm8k"})
    preflight.preflight(config, places, stop)
    written = json.loads((places.claims / "out" / "double" / builders.UID / "preflight.json").read_text())
    first = written["rewards"][0]
    assert [first[name] for name in ("candidate", "mean", "worst", "limit")] == ["the right answer", 1.1, 1.1, None]
    assert len(written["rewards"]) == 11


def run(base: Path, tmp_path: Path, method: str, reward: dict[str, Any]) -> Any:
    rows = [{"prompt": f"Double {n}", "gold": str(2 * n)} for n in range(20, 40)]
    dataset = builders.json_lines(tmp_path / "rows.jsonl", rows)
    environment = {
        "dataset": {"uri": f"file://{dataset}"},
        "chatTemplate": {"inline": builders.CHATML},
        "rewards": [reward],
    }
    spec: dict[str, Any] = {"method": method, "environment": environment, "evaluation": {"metrics": ["reward"]}}
    if method == "bestOf":
        spec |= {"tuning": {}, "hyperparameters": {}}
    if method == "grpo":
        return builders.rl_run(base, dataset, **spec)
    return builders.run(base, dataset, **spec)
