"""Whether the start model's answers show that there is anything to learn."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source
from posttrain_trainer import model, training
from posttrain_trainer.job import Job
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.rl import signal

ROWS = [{"prompt": f"Say {number}", "gold": "7"} for number in range(48)]
NEVER = {"rewards": [{"builtin": "exact"}], "allowNoSignal": False}
ALWAYS = {"rewards": [{"builtin": "length", "maxCharacters": 1000}], "allowNoSignal": False}


def job(base: Path, tmp_path: Path, environment: dict[str, Any], **spec: Any) -> Job:
    return builders.rl_job(base, tmp_path, rows=ROWS, environment=environment, **spec)


def checked(run: Job, **clock: Any) -> dict[str, Any]:
    """What was found of the base's own answers."""
    signal.check(model.load(run.config, run.places, run.precision), run, **clock)
    found: dict[str, Any] = run.progress.findings["signal"]
    return found


def test_a_start_that_is_never_right_is_refused_with_what_to_do(base: Path, tmp_path: Path) -> None:
    run = job(base, tmp_path, NEVER)
    with pytest.raises(
        Refused,
        match=r"^0 % of 128 answers of the start model to 32 prompts are right, .* method sft first .* easier rows, or "
        r"raise grpo.groupSize above 4; environment.allowNoSignal: true",
    ) as refused:
        checked(run)
    assert refused.value.reason is Reason.NO_SIGNAL
    assert run.progress.findings["signal"] == {"prompts": 32, "answers": 128, "passRate": 0.0, "noSpreadShare": 1.0}
    assert run.progress.status.stage == "Sampling"


def test_a_start_that_is_always_right_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^100 % of 128 answers .* take harder rows; environment.allowNoSignal"):
        checked(job(base, tmp_path, ALWAYS))


@pytest.mark.parametrize("environment", [NEVER, ALWAYS], ids=["never right", "always right"])
def test_who_says_so_may_begin_without_a_signal(base: Path, tmp_path: Path, environment: dict[str, Any]) -> None:
    found = checked(job(base, tmp_path, environment | {"allowNoSignal": True}))
    assert found["noSpreadShare"] == 1


@pytest.mark.parametrize("method", ["grpo", "rloo", "ppo"])
def test_a_start_that_is_right_at_times_begins(base: Path, tmp_path: Path, method: str) -> None:
    environment = {"rewards": [{"builtin": "regex", "pattern": "[a-z].*"}], "allowNoSignal": False}
    found = checked(job(base, tmp_path, environment, method=method))
    assert 0 < found["passRate"] < 0.5
    assert 0 < found["noSpreadShare"] < 1


def test_success_tells_what_is_right_where_it_is_measured(base: Path, tmp_path: Path) -> None:
    rewards = [{"builtin": "length", "maxCharacters": 2}, {"builtin": "exact", "role": "success"}]
    run = job(base, tmp_path, {"rewards": rewards, "allowNoSignal": False})
    with pytest.raises(Refused, match=r"^0 % of"):
        checked(run)
    assert run.progress.findings["signal"]["noSpreadShare"] < 1


def test_it_ends_when_there_is_no_more_time(base: Path, tmp_path: Path) -> None:
    seconds = iter([0.0, 30.0, 61.0])
    found = checked(job(base, tmp_path, NEVER | {"allowNoSignal": True}), clock=lambda: next(seconds))
    assert (found["prompts"], found["answers"]) == (8, 32)


def test_nothing_is_trained_without_a_signal(base: Path, tmp_path: Path) -> None:
    config = builders.rl_run(base, builders.json_lines(tmp_path / "rows.jsonl", ROWS), environment=NEVER)
    progress = Progress("double")
    with pytest.raises(Refused, match="0 % of"):
        training.train(config, Places(claims=tmp_path / "claims"), progress, Stop())
    assert progress.history == []


def test_a_reward_model_that_prefers_no_right_answer_is_refused_when_it_is_loaded(base: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"Add {n}", "chosen": f"Please {n}", "rejected": f"Go {n} away"} for n in range(24)]
    judging = builders.run(base, builders.json_lines(tmp_path / "pairs.jsonl", pairs), method="reward")
    judge = training.train(judging, Places(claims=tmp_path / "judge"), Progress("double"), Stop()).artifact
    uri = f"file://{Places(claims=tmp_path / 'judge').path(judge.uri)}"
    rewards = {"rewards": [{"model": {"fromRun": {"name": "judge"}}}]}
    config = builders.rl_run(base, builders.json_lines(tmp_path / "rows.jsonl", ROWS[:4]), environment=rewards)
    source = Source(run="judge", uri=uri, digest=judge.digest, kind=judge.kind)
    config = config.replace(sources={"environment.rewards.0": source})
    with pytest.raises(Refused, match=r"environment\.rewards model: ") as refused:
        training.train(config, Places(claims=tmp_path / "claims"), Progress("double"), Stop())
    assert refused.value.reason is Reason.REWARD_INVALID
