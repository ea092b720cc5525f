"""What `recommend` advises: a method that fits what there is, and a manifest that `validate` accepts."""

import io
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from posttrain_cli.failure import Failure
from posttrain_cli.recommend import recommend
from posttrain_cli.situation import Have, Situation, asks_for_knowledge
from posttrain_cli.validate import validate

ROWS = (1, 50, 999, 1_000, 20_000)


def situation(have: Have, rows: int, **answers: Any) -> Situation:
    """What someone has, with the rest as most have it."""
    usual = {"base": "pvc://models/base", "is_tuned": True, "data": "pvc://data/train.jsonl", "teacher": "file:///t"}
    return Situation(have=have, rows=rows, **{**usual, **answers})


@pytest.mark.parametrize(
    ("have", "rows", "is_tuned", "teaches_knowledge"), list(product(Have, ROWS, [True, False], [True, False]))
)
def test_every_manifest_is_valid(tmp_path: Path, have: Have, rows: int, is_tuned: bool, teaches_knowledge: bool):
    file = tmp_path / "advice.yaml"
    asked = situation(have, rows, is_tuned=is_tuned, teaches_knowledge=teaches_knowledge)
    file.write_text(recommend(asked).to_yaml())
    console = Console(file=io.StringIO())
    assert validate([str(file)], console) == 0, console.file


ADVICE: dict[str, tuple[Situation, str, list[str]]] = {
    "few examples": (situation(Have.EXAMPLES, 300), "sft", ["sft"]),
    "many examples of a form": (situation(Have.EXAMPLES, 50_000), "sft", ["sft"]),
    "new knowledge for a tuned base": (
        situation(Have.EXAMPLES, 50_000, teaches_knowledge=True),
        "sft with osft",
        ["sft"],
    ),
    "new knowledge for an untuned base": (
        situation(Have.EXAMPLES, 50_000, teaches_knowledge=True, is_tuned=False),
        "sft of the whole model",
        ["sft"],
    ),
    "little new knowledge": (situation(Have.EXAMPLES, 300, teaches_knowledge=True), "sft", ["sft"]),
    "pairs": (situation(Have.PAIRS, 5_000), "dpo", ["dpo"]),
    "pairs for an untuned base": (situation(Have.PAIRS, 5_000, is_tuned=False), "sft, then dpo", ["sft", "dpo"]),
    "few pairs for an untuned base": (situation(Have.PAIRS, 300, is_tuned=False), "orpo", ["orpo"]),
    "thumbs": (situation(Have.THUMBS, 300), "kto", ["kto"]),
    "a scorer": (situation(Have.SCORER, 300), "grpo", ["grpo"]),
    "a scorer for an untuned base": (
        situation(Have.SCORER, 300, is_tuned=False),
        "bestOf, then sft, then grpo",
        ["bestOf", "sft", "grpo"],
    ),
    "a teacher": (situation(Have.TEACHER, 300), "distill", ["distill"]),
}


@pytest.mark.parametrize(("asked", "method", "methods"), ADVICE.values(), ids=ADVICE.keys())
def test_the_method_fits(asked: Situation, method: str, methods: list[str]):
    found = recommend(asked)
    assert (found.method, [run["spec"]["method"] for run in found.runs]) == (method, methods)


def test_the_manifest_begins_with_method_and_reason():
    text = recommend(situation(Have.PAIRS, 5_000, is_tuned=False, name="helper")).to_yaml()
    comment, _, manifest = text.partition("---\n")
    assert comment.startswith("# sft, then dpo: The base was never tuned")
    assert all(line.startswith("# ") and len(line) <= 102 for line in comment.splitlines())
    first, second = yaml.safe_load_all(manifest)
    assert first["metadata"]["name"] == "helper-sft"
    assert first["spec"]["environment"]["dataset"]["columns"] == {"chosen": "completion"}
    assert second["metadata"]["name"] == "helper"
    assert second["spec"]["baseModel"] == {"fromRun": {"name": "helper-sft"}}


def test_an_untuned_base_for_kto_is_said_so():
    found = recommend(situation(Have.THUMBS, 300, is_tuned=False))
    assert found.runs[0]["spec"]["allowUntunedBase"] is True
    assert "better to start from an sft run" in found.reason


def test_a_small_dataset_gets_smaller_steps():
    steps = [recommend(situation(Have.EXAMPLES, rows)).runs[0]["spec"].get("hyperparameters") for rows in (199, 200)]
    assert steps == [{"effectiveBatchSize": 4}, None]


def test_what_the_examples_teach_matters_with_many_of_them():
    assert [asks_for_knowledge(have, 10_000) for have in Have] == [True, False, False, False, False]
    assert not asks_for_knowledge(Have.EXAMPLES, 9_999)


WRONG = {
    "a base of no kind": ({"base": "s3://base"}, "my-model: .* spec.baseModel.uri: s3://base: use pvc://claim/path"),
    "no rows": ({"rows": 0}, "rows: write how many there are, at least 1"),
    "a long name": ({"name": "x" * 41}, "metadata.name: is longer than 40 characters"),
}


@pytest.mark.parametrize(("answers", "expected"), WRONG.values(), ids=WRONG.keys())
def test_an_answer_that_fits_no_manifest_is_a_failure(answers: dict[str, Any], expected: str):
    with pytest.raises(Failure, match=expected):
        recommend(situation(**{"have": Have.EXAMPLES, "rows": 10, **answers}))
