"""lm-evaluation-harness on task files that lie here."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.evaluation import LmEval
from posttrain_trainer import harness, model
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused

TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: colours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["a", "a"]
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
REMOTE = (
    TASK.replace("colours", "remote")
    .replace("dataset_path: json", "dataset_path: someone/somewhere")
    .replace("dataset_kwargs: {data_files: {test: remote.jsonl}}\n", "")
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A ConfigMap with two tasks, of which one wants data from elsewhere."""
    folder = tmp_path / "tasks"
    builders.json_lines(folder / "colours.jsonl", [{"question": f"Row {number}"} for number in range(6)])
    (folder / "colours.yaml").write_text(TASK)
    (folder / "remote.yaml").write_text(REMOTE)
    return Places(config_maps=tmp_path)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return tokenizers.load(base, "file:///base")


@pytest.fixture(scope="module")
def plain(base: Path) -> Any:
    return model.load_base(base, "file:///base", model.Precision("cpu", "float32"))


GIVEN = LmEval.model_validate({"configMap": {"name": "tasks"}, "limit": 4})


def test_the_value_is_the_first_metric_of_the_task(places: Places, plain: Any, tokenizer: Any) -> None:
    # Both choices are alike, and the first of equal ones is taken.
    found = harness.measure(plain, tokenizer, GIVEN, ["loss", "lm-eval:colours"], places)
    assert found == {"lm-eval:colours": 1.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shapes", "no task in ConfigMap tasks: it has colours, remote"),
        ("remote", "cannot be loaded, and nothing is fetched: "),
    ],
)
def test_a_task_that_cannot_run_here_is_refused(
    places: Places, plain: Any, tokenizer: Any, name: str, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        harness.measure(plain, tokenizer, GIVEN, [f"lm-eval:{name}"], places)
    assert refused.value.reason == Reason.EVALUATION_INVALID
    assert message in str(refused.value)


def test_without_such_a_metric_nothing_is_asked(plain: Any, tokenizer: Any) -> None:
    nowhere = Places(config_maps=Path("/nonexistent"))
    assert harness.measure(plain, tokenizer, GIVEN, ["loss"], nowhere) == {}
    with pytest.raises(Refused, match=r"^evaluation.lmEval: ConfigMap tasks: there is no such folder$"):
        harness.measure(plain, tokenizer, GIVEN, ["lm-eval:colours"], nowhere)


@pytest.mark.parametrize(
    ("given", "metric", "message"),
    [
        (GIVEN, "lm-eval:colors", "lm-eval:colors: no task in ConfigMap tasks: it has colours, remote"),
        (LmEval.model_validate({"configMap": {"name": "none"}}), "loss", "ConfigMap none: there is no such folder"),
    ],
)
def test_preflight_finds_a_missing_task_by_the_files_alone(
    places: Places, given: LmEval, metric: str, message: str
) -> None:
    harness.check(GIVEN, ["loss", "lm-eval:colours", "lm-eval:remote"], places)
    with pytest.raises(Refused, match=message) as refused:
        harness.check(given, [metric], places)
    assert refused.value.reason == Reason.EVALUATION_INVALID
