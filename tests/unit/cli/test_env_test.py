"""What `env test` says of the environments of a file: the trainer itself tries them, in a process of its own."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.unit.cli import manifests
from tests.unit.cli.manifests import Object, after, written
from tests.unit.trainer import builders as trainer_builders

from posttrain_api.environment_report import EnvironmentReport, Finding
from posttrain_cli import env_init, env_report, env_trial
from posttrain_cli.documents import Document
from posttrain_cli.env_kind import Kind
from posttrain_cli.estimate import Here
from posttrain_cli.failure import Failure

ROWS = {"uri": "pvc://data/rows.jsonl"}
HERE = Here(python=sys.executable)
SUMS = [{"prompt": f"What is {number} + 1?", "gold": number + 1} for number in range(20)]
REWARDS = """
def right(prompts, completions, gold, **columns):
    return [float(answer == f"<answer>{known}</answer>") for answer, known in zip(completions, gold)]


def held(prompts, completions, gold, **columns):
    return [float(known in answer) for answer, known in zip(completions, gold)]
"""


def said(file: str, *, here: Here = HERE, model: Path | None = None) -> tuple[int, str]:
    """Exit code and what is printed."""
    console = Console(file=io.StringIO(), highlight=False, width=160)
    code = env_trial.try_out([file], env_trial.Shown(console), here, model=model)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def learning(*functions: str, rows: list[Object] = SUMS, name: str = "sums", **spec: Any) -> list[Object]:
    """A run of grpo that learns from functions, with its ConfigMap."""
    rewards = [{"python": {"configMap": {"name": "sums"}, "entrypoint": f"rewards:{name}"}} for name in functions]
    environment = {
        "dataset": {"configMap": {"name": "sums", "key": "rows"}},
        "answerFormat": "<answer>{gold}</answer>",
        "rewards": rewards,
    }
    run = manifests.run(name, **{"method": "grpo", "start": after("nowhere"), "environment": environment, **spec})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    return [run, manifests.config_map("sums", **{"rows": lines, "rewards.py": REWARDS})]


@pytest.mark.parametrize("kind", [Kind.ARITHMETIC, Kind.JSON])
def test_what_init_writes_is_fit_to_learn_from(tmp_path: Path, kind: Kind):
    env_init.init("sums", kind, tmp_path)
    code, text = said(str(tmp_path / "run.yaml"))
    assert (code, text.count("fit to learn from, as far as can be told here")) == (0, 2), text
    assert "ok      rows: 40 of ConfigMap sums, key data.jsonl" in text
    assert "ok      steps: 50 steps; each generation asks 8 prompts, 8 answers each" in text
    assert "the right answer scores the most, each says the same twice, and is fast" in text


def test_a_reward_that_can_be_cheated_is_told_with_the_answer(tmp_path: Path):
    code, text = said(written(tmp_path / "a.yaml", *learning("held")))
    assert code == 1
    assert "wrong   rewards: RewardInvalid: environment.rewards held: '" in text
    assert ", and at most 0.5 may be: row " in text
    assert text.splitlines()[-1] == "not fit to learn from: rewards"


def test_a_package_needs_no_rows_and_no_rewards(tmp_path: Path):
    environment = {
        "dataset": {"package": "reasoning-gym:chain_sum", "limit": 40, "packageOptions": {"max_terms": 3}},
        "answerFormat": "<answer>{gold}</answer>",
    }
    held_out = {"dataset": {"package": "reasoning-gym:chain_sum", "limit": 10, "packageOptions": {"seed": 1}}}
    run = manifests.run(method="rloo", start=after("nowhere"), environment=environment, evaluation=held_out)
    code, text = said(written(tmp_path / "a.yaml", run))
    assert code == 0, text
    assert "ok      rows: 40 of reasoning-gym:chain_sum, sha256:" in text
    assert "ok      held-out rows: 10 of reasoning-gym:chain_sum" in text
    assert "ok      rewards: verifier: the right answer scores the most" in text


def test_what_is_wrong_with_rows_ends_it_before_the_rewards(tmp_path: Path):
    code, text = said(written(tmp_path / "a.yaml", *learning("right", rows=[*SUMS, {"gold": 3}])))
    assert code == 1
    assert 'wrong   rows: DatasetInvalid: ConfigMap sums, key rows: row 21: "prompt" is missing' in text
    assert "rewards" not in text


def test_every_run_of_a_file_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows, cheated = [*SUMS, SUMS[0]], learning("held", name="cheated")[0]
    file = written(tmp_path / "a.yaml", *learning("right", rows=rows), cheated)
    shown = env_trial.Shown(Console(file=io.StringIO()), as_json=True)
    assert env_trial.try_out([file], shown, HERE) == 1
    reports = {
        name: EnvironmentReport.model_validate(found) for name, found in json.loads(capsys.readouterr().out).items()
    }
    verdicts = {name: [(found.what, found.verdict) for found in report.findings] for name, report in reports.items()}
    begin = [("manifest", "ok"), ("rows", "warning"), ("steps", "ok")]
    assert verdicts == {
        "trun/sums": [*begin, ("rewards", "ok")],
        "trun/cheated": [*begin, ("rewards", "wrong")],
    }
    assert reports["trun/sums"].findings[1].message.endswith("; 1 of them repeats another: remove it")
    assert reports["trun/sums"].findings[3].columns[:2] == ["answer", "mean score"]


def test_a_model_shows_whether_there_is_a_signal(tmp_path: Path):
    base = trainer_builders.base(tmp_path / "base")
    chat = {"inline": trainer_builders.CHATML}
    environment = {**learning("right")[0]["spec"]["environment"], "chatTemplate": chat}
    numbers = {"effectiveBatchSize": 8, "maxLength": 256}
    spec = {"environment": environment, "hyperparameters": numbers, "grpo": {"maxCompletionTokens": 8}}
    run, rows = learning("right", rows=SUMS[:5], **spec)
    code, text = said(written(tmp_path / "a.yaml", run, rows), model=base)
    assert code == 1
    assert "ok      lengths: up to " in text
    assert "wrong   signal: 0 % of 32 answers of the start model to 4 prompts are right" in text


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        pytest.param(
            {"environment": {"rewards": []}}, "wrong   manifest: spec.environment.dataset: is missing", id="schema"
        ),
        pytest.param(
            {"environment": {"dataset": {"uri": "pvc://data/a"}}},
            "learn from scores: write environment.rewards",
            id="rule",
        ),
        pytest.param(
            {"environment": {"dataset": ROWS, "rewards": [{"builtin": "exact"}]}},
            "wrong   environment: the claim data is not here: say --claims FOLDER",
            id="a claim",
        ),
        pytest.param(
            {"method": "sft", "environment": {"dataset": {"fromRun": {"name": "best"}}}},
            "wrong   environment: the rows that best keeps are not here before it has run",
            id="rows of another run",
        ),
    ],
)
def test_what_is_wrong_before_the_trainer_is_asked_is_told(tmp_path: Path, spec: Object, told: str):
    run = manifests.run(**{"method": "grpo", "start": after("nowhere"), **spec})
    code, text = said(written(tmp_path / "a.yaml", run), here=Here(python="/no/such/python"))
    assert (code, told in text) == (1, True), text


def test_tools_wait_for_a_model(tmp_path: Path):
    run, rows = learning("right")
    run["spec"]["environment"]["tools"] = {"configMap": {"name": "sums"}, "entrypoint": "tools:Calculator"}
    code, text = said(written(tmp_path / "a.yaml", run, rows))
    assert (code, "skipped tools: a chat template tells of them: give a model by --model" in text) == (0, True), text


def test_what_scores_elsewhere_is_left_out():
    rewards = [{"builtin": "exact"}, {"model": {"fromRun": {"name": "taste"}}}, {"http": {"url": "http://judge"}}]
    environment = {"dataset": ROWS, "rewards": rewards}
    run = manifests.run(method="grpo", start=after("nowhere"), environment=environment)
    config, left_out = env_trial.run_config(Document("here", run))
    assert [reward.kind for reward in config.recipe.environment.rewards] == ["exact"]
    assert [found.message.partition(" is not here")[0] for found in left_out] == [
        "the reward model of taste",
        "a judge that is asked by HTTP",
    ]


def test_a_folder_that_is_no_model_is_told(tmp_path: Path):
    with pytest.raises(Failure, match=r"this is no transformers checkpoint: name a folder with a config\.json"):
        said(written(tmp_path / "a.yaml", *learning("right")), model=tmp_path)


def test_findings_are_lines_with_their_tables():
    table = {"columns": ["answer", "mean"], "rows": [["[red]x[/red]", "1"]]}
    ok = Finding(what="rows", verdict="ok", message="5 rows\nof pvc://data", **table)
    wrong = Finding(what="rewards", verdict="wrong", message="cheated")
    console = Console(file=io.StringIO(), width=80)
    for part in env_report.parts(EnvironmentReport(findings=[ok, wrong])):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "ok      rows: 5 rows of pvc://data",
        "    answer        mean",
        "    [red]x[/red]  1",
        "wrong   rewards: cheated",
        "not fit to learn from: rewards",
    ]
