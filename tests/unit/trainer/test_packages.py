"""Environments of packages: reasoning-gym's tasks, and those of verifiers in an environment of its own."""

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_trainer import dataset_rows, formats
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.examples import Prompt
from posttrain_trainer.packages import named
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import verifier
from posttrain_trainer.scoring import Scorer

SUM = "reasoning-gym:chain_sum"
ASKED = "State the final answer to the following arithmetic problem: 4 + 3 ="


def dataset(package: str, limit: int | None = 5, **options: Any) -> Dataset:
    return Dataset(package=package, limit=limit, package_options=options or None)


def rows(package: str, limit: int = 5, **options: Any) -> Rows:
    return dataset_rows.read(dataset(package, limit, **options), Places(), formats.prompt)


def scores(package: str, found: Sequence[Row], answers: Sequence[str], **options: Any) -> list[float | None]:
    """What the code where foreign code runs says, called here: these answers are harmless."""
    scoring = named.scoring(dataset(package, **options))
    arguments = scoring.arguments(answers, [row.gold for row in found], [row.columns for row in found])
    return scoring.function(**json.loads(json.dumps(arguments)))


def test_a_task_is_rows_with_their_right_answers():
    found = rows(SUM, limit=3)
    assert [row.gold for row in found.rows] == ["7", "1692", "15"]
    assert found.rows[0].messages == [{"role": "user", "content": ASKED}]
    assert found.name == SUM
    assert len(rows(SUM, limit=None).rows) == 1000


def test_the_same_rows_have_the_same_digest():
    assert rows(SUM).digest == rows(SUM, seed=42).digest
    assert rows(SUM).digest != rows(SUM, seed=43).digest
    assert rows(SUM).digest != rows(SUM, limit=6).digest


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("chain_sum", id="a plain answer"),
        pytest.param("sudoku", id="a score that reads the metadata"),
        pytest.param("arc_agi", id="metadata with tuples, which JSON has not"),
        pytest.param("countdown", id="many right answers"),
        pytest.param("gsm_symbolic", id="questions from templates"),
    ],
)
def test_a_tasks_own_score_survives_json(task: str):
    package = f"reasoning-gym:{task}"
    found = rows(package, limit=2).rows
    assert scores(package, found, [str(row.gold) for row in found]) == [1.0, 1.0]
    assert max(scores(package, found, ["no idea"] * 2)) < 0.1


@pytest.mark.parametrize(
    ("task", "harmless"),
    [("chain_sum", True), ("gcd", True), ("spiral_matrix", False), ("countdown", False), ("arc_agi", False)],
    ids=["compares numbers", "inherits", "evaluates", "parses expressions", "calls what is not known"],
)
def test_a_score_runs_here_only_where_it_can_do_no_harm(task: str, harmless: bool):
    assert named.scoring(dataset(f"reasoning-gym:{task}")).may_run_here is harmless


def test_what_the_tasks_code_cannot_read_is_wrong():
    package = "reasoning-gym:prime_factorization"
    assert scores(package, rows(package, limit=1).rows, ["2 × x"]) == [0.0]


@pytest.mark.parametrize(
    ("package", "options", "told"),
    [
        pytest.param(f"{SUM}s", {}, "no such task: write chain_sum, decimal_chain_sum", id="a task that there is not"),
        pytest.param(SUM, {"max_term": 3}, "packageOptions.max_term: no such option: write max_terms", id="typo"),
        pytest.param(SUM, {"size": 3}, "packageOptions.size: write dataset.limit instead", id="a field of its own"),
        pytest.param(SUM, {"max_terms": 0}, "{'max_terms': 0}: AssertionError: max_terms must be >= min", id="bounds"),
        pytest.param(SUM, {"max_terms": "x"}, "does not take dataset.packageOptions {'max_terms': 'x'}", id="type"),
        pytest.param("reasoning-gym:codeio", {}, "it makes other rows each time", id="rows that cannot be made again"),
    ],
)
def test_what_cannot_be_had_is_told(package: str, options: dict[str, Any], told: str):
    with pytest.raises(Refused) as refused:
        rows(package, **options)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert str(refused.value).startswith(f"dataset.package {package}: ")
    assert told in str(refused.value)


def test_a_package_that_is_not_installed_is_told():
    with pytest.raises(
        Refused, match=r"verifiers 0\.4 is not installed here: add the package verifiers and"
    ) as refused:
        rows("verifiers:gsm8k")
    assert refused.value.reason is Reason.PACKAGE_MISSING


@pytest.mark.parametrize(
    ("answer", "answer_format", "told"),
    [
        pytest.param(" 7\n", None, "7", id="all of it where nothing is said"),
        pytest.param("so <answer> 7 </answer> it is", "<answer>{gold}</answer>", "7", id="between tags"),
        pytest.param("7", "<answer>{gold}</answer>", None, id="without tags"),
        pytest.param("<answer>7", "<answer>{gold}</answer>", None, id="without the end"),
        pytest.param("<answer>6</answer><answer>7</answer>", "<answer>{gold}</answer>", None, id="several answers"),
        pytest.param("I add.\nAnswer: 7\n", "Answer: {gold}", "7", id="behind a word"),
        pytest.param("3.5.", "{gold}.", "3.5", id="before a sign that it holds itself"),
    ],
)
def test_a_verifier_is_shown_what_stands_where_gold_stands(answer: str, answer_format: str | None, told: str | None):
    assert named.told_answer(answer, answer_format) == told


JUDGED_ELSEWHERE = {"dataset": {"configMap": {"name": "held-out", "key": "a"}}}
JUDGED_BY_ANOTHER = {"dataset": {"package": "reasoning-gym:products"}}


@pytest.mark.parametrize("evaluation", [JUDGED_ELSEWHERE, JUDGED_BY_ANOTHER], ids=["a file", "another task"])
def test_a_verifier_judges_rows_of_its_own_environment_only(evaluation: dict[str, Any]):
    with pytest.raises(Refused, match=f"write package: {SUM} with another packageOptions.seed") as refused:
        verifier.check_held_out(_run(evaluation).recipe)
    assert refused.value.reason is Reason.EVALUATION_INVALID


@pytest.mark.parametrize(
    "evaluation",
    [
        pytest.param({"dataset": {"package": SUM, "packageOptions": {"seed": 1}}}, id="another seed"),
        pytest.param({**JUDGED_ELSEWHERE, "metrics": ["loss"]}, id="where nothing is scored"),
        pytest.param({}, id="rows taken out of training"),
    ],
)
def test_a_verifier_does_not_mind(evaluation: dict[str, Any]):
    verifier.check_held_out(_run(evaluation).recipe)


def _run(evaluation: dict[str, Any], *, package: str = SUM, **reward: Any) -> Any:
    environment = {"dataset": {"package": package, "limit": 4}, "answerFormat": "<answer>{gold}</answer>"}
    environment |= {"rewards": [{"builtin": "verifier", **reward}]} if reward else {}
    start = {"uri": "file:///base", "tuned": True}
    numbers = {"effectiveBatchSize": 8}
    spec = {"environment": environment, "evaluation": evaluation, "baseModel": start, "hyperparameters": numbers}
    return builders.run(Path("/base"), Path("/rows"), method="grpo", **spec)


def scored(package: str, answers: Sequence[str], **reward: Any) -> list[float | None]:
    """What the scorer of a run says of answers to its rows."""
    config = _run({}, package=package, **reward)
    found = dataset_rows.read(
        config.recipe.environment.dataset, Places(), formats.of("grpo", config.recipe.environment)
    )
    asked = [Prompt(row.number, row.messages, array("i"), row.gold, dict(row.columns), row.right) for row in found.rows]
    right = [str(prompt.right) for prompt in asked]
    given = [*right[: len(asked) - len(answers)], *answers]
    return [one.total for one in Scorer(config, Places(), "cpu").score(list(zip(asked, given, strict=True)))]


def test_a_verifier_scores_what_stands_in_the_answers_form():
    assert scored(SUM, ["7", "<answer>none</answer>"]) == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "gold", "disguised"),
    [
        pytest.param("３４", "34", True, id="full-width digits"),
        pytest.param("٣٤", "34", True, id="digits of another script"),
        pytest.param("aſ", "as", True, id="a letter that becomes another"),
        pytest.param("34 – naïve", "34", False, id="letters of their own"),
        pytest.param("34", "34", False, id="plain"),
        pytest.param("３４", "３４", False, id="as the right answer itself"),
    ],
)
def test_look_alikes_of_digits_and_letters_are_told_apart(answer: str, gold: str, disguised: bool):
    assert named.is_disguised(answer, gold) is disguised


def test_a_right_answer_in_look_alikes_scores_nothing():
    full_width = str(rows(SUM, limit=4).rows[-1].gold).translate(
        {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
    )
    assert scored(SUM, [f"<answer>{full_width}</answer>"]) == [1.0, 1.0, 1.0, 0.0]


def test_an_answer_that_holds_up_its_batch_costs_itself_alone():
    endless = "<answer>9**9**9**9</answer>"
    assert scored("reasoning-gym:countdown", [endless, "<answer>1</answer>"]) == [1.0, 1.0, 0.0, 0.05]


def test_what_an_answer_does_to_its_verifier_stays_there(tmp_path: Path):
    mischief = f"<answer>[open({str(tmp_path / 'file')!r}, 'w')]</answer>"
    assert scored("reasoning-gym:spiral_matrix", [mischief])[3] == 0.0
    assert not (tmp_path / "file").exists()


def test_a_package_is_loaded_only_where_it_is_named():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from posttrain_trainer import dataset_rows, formats\n"
        "from posttrain_api.v1alpha1.environment import Dataset\n"
        "before = 'reasoning_gym' in sys.modules\n"
        f"dataset_rows.read(Dataset(package='{SUM}', limit=2), None, formats.prompt)\n"
        "print(before, 'reasoning_gym' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


VERIFIERS = Path(os.environ.get("POSTTRAIN_CACHE", Path.home() / ".cache/posttrain")) / "env/verifiers/bin/python"
TASKSETS = Path(__file__).parent / "verifiers_environments"


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """What a process says that has the package verifiers and some small environments."""
    root = Path(__file__).parents[3]
    paths = [TASKSETS, root / "operator", root / "images/trainer"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    program = [VERIFIERS, TASKSETS / "ask.py"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_an_environment_of_verifiers_is_rows(asked: dict[str, Any]):
    assert asked["rows"][1] == {
        "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1 ="}],
        "gold": "2",
        "task": {"idx": 1, "prompt": "1 + 1 =", "system_prompt": "Add.", "answer": "2"},
    }
    assert asked["counts"] == {"limit 2": 2, "count 7": 7, "endless, limit 3": 3}


def test_an_environment_of_verifiers_scores_by_all_its_rewards(asked: dict[str, Any]):
    assert asked["scores"] == {"2": 1.25, "two": 0.25, "It is 2, as everybody knows": 0.0}


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("endless", "dataset.package verifiers:endless: its rows have no end: write dataset.limit"),
        ("tools", "dataset.package verifiers:tools: its tasks have tools, and here an answer to a prompt is scored"),
        ("container", "dataset.package verifiers:container: its tasks need a container, and here"),
        ("several", "dataset.package verifiers:several: it has a course of its own, of several turns or agents, and"),
        ("unscored", "dataset.package verifiers:unscored: its tasks have no reward, and here"),
        ("nowhere", "dataset.package verifiers:nowhere: cannot be imported: ModuleNotFoundError: taskset 'nowhere'"),
        ("options", "dataset.package verifiers:adding: does not take dataset.packageOptions {'number': 3}: "),
    ],
)
def test_what_cannot_be_scored_by_an_answer_is_refused(asked: dict[str, Any], case: str, told: str):
    assert asked["refused"][case].startswith(told)
