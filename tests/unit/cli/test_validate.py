"""What `validate` says of files: each fault with its place and what to write instead."""

import io
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.unit.cli import manifests
from tests.unit.cli.manifests import Object, after, written

from posttrain_cli import between, documents
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure
from posttrain_cli.faults import faults
from posttrain_cli.validate import validate

EXAMPLES = Path(__file__).parents[3] / "examples"


def judged(*files: str, known: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """Exit code and lines."""
    console = Console(file=io.StringIO(), highlight=False)
    code = validate(files, console, known=known)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue().splitlines()


def told(content: Object) -> list[str]:
    """The faults of one document."""
    return [str(fault) for fault in faults(Document("here", content))]


def between_told(*contents: Object, known: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Label of a document -> the faults between it and the others."""
    found = [Document("here", content) for content in contents]
    return {found[index].label: [*map(str, own)] for index, own in between.faults(found, known=known).items()}


def test_a_good_file_is_one_line_for_each_object(tmp_path: Path):
    file = written(
        tmp_path / "all.yaml",
        manifests.config_map(),
        manifests.run("numbers", method="dpo", start=after("dates")),
        manifests.run("dates"),
        manifests.deployment({"name": "a", **after("numbers")}),
    )
    assert judged(file) == (
        0,
        [
            "ConfigMap/dates: skipped, it is not for posttrain to judge",
            "trun/numbers: ok",
            "trun/dates: ok",
            "adep/assistants: ok",
        ],
    )


def test_the_projects_examples_are_good():
    code, lines = judged(*map(str, sorted(EXAMPLES.glob("*.yaml"))))
    assert code == 0
    assert all(line.endswith((": ok", "to judge")) for line in lines)


def test_a_fault_is_told_below_its_object_and_ends_in_1(tmp_path: Path):
    file = written(tmp_path / "two.yaml", manifests.run("good"), manifests.run("bad", method="sftt"))
    code, lines = judged(file)
    assert code == 1
    assert lines[:2] == ["trun/good: ok", f"trun/bad: 1 to change ({file}, document 2)"]
    assert lines[2].startswith("  spec.method: 'sftt' is not possible: write 'sft', 'dpo'")


FAULTS: dict[str, tuple[Object, list[str]]] = {
    "a field that is misspelt": (
        manifests.run(hyperparameters={"efectiveBatchSize": 8}),
        ["spec.hyperparameters.efectiveBatchSize: there is no such field: write effectiveBatchSize"],
    ),
    "a field in the words of Python": (
        manifests.run(hyperparameters={"learning_rate": 0.1}),
        ["spec.hyperparameters.learning_rate: there is no such field: write learningRate"],
    ),
    "a field that nothing is like": (
        manifests.run(start={"uri": "file:///base", "zzz": 1}),
        ["spec.baseModel.zzz: there is no such field: write fromRun, tuned or uri"],
    ),
    "a text for a number": (
        manifests.run(hyperparameters={"epochs": "3"}),
        ["spec.hyperparameters.epochs: '3': input should be a valid number"],
    ),
    "a number out of its bounds": (
        manifests.run(tuning={"lora": {"rank": 0}}),
        ["spec.tuning.lora.rank: 0: input should be greater than or equal to 1"],
    ),
    "a key that is missing": (
        manifests.run(environment={"dataset": {"configMap": {"name": "dates"}}}),
        ["spec.environment.dataset.configMap.key: is missing: write it"],
    ),
    "both uri and fromRun": (
        manifests.run(start={"uri": "file:///base", **after("x")}),
        ["spec.baseModel: give exactly one of uri, fromRun"],
    ),
    "a URI of no kind": (
        manifests.run(start={"uri": "s3://models/base"}),
        ["spec.baseModel.uri: s3://models/base: use pvc://claim/path or file:///path"],
    ),
    "a place in a list": (
        manifests.deployment({"name": "a", **after("x")}, {"name": "b!", **after("x")}),
        ["spec.adapters[1].name: 'b!' is not possible: write something of the form "],
    ),
    "two of one name in a list": (
        manifests.deployment({"name": "a", **after("x")}, {"name": "a", **after("y")}),
        ["spec.adapters[1]: a stands in this list already: choose another"],
    ),
    "a knob that the method cannot use": (
        manifests.run(kto={"beta": 0.2}),
        ["spec: kto is the block of method kto: remove it, or write method: kto"],
    ),
    "another version": (
        {**manifests.run(), "apiVersion": "posttrain.dev/v1"},
        ["apiVersion: write posttrain.dev/v1alpha1"],
    ),
    "another kind": (
        {**manifests.run(), "kind": "TrainingRan"},
        ["kind: TrainingRan is none of ours: write TrainingRun or AdapterDeployment"],
    ),
    "no name": ({**manifests.run(), "metadata": {}}, ["metadata.name: is missing: write a name"]),
    "a long name": (
        manifests.run("x" * 41),
        ["metadata.name: is longer than 40 characters: write a shorter name"],
    ),
    "no spec": (
        {key: value for key, value in manifests.run().items() if key != "spec"},
        ["spec: is missing: write it"],
    ),
}


@pytest.mark.parametrize(("content", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_names_its_place_and_what_to_write(content: Object, expected: list[str]):
    found = told(content)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_every_fault_is_told_at_once():
    found = told(manifests.run(start={"uri": "x"}, kto={}, hyperparameters={"epochs": -1}, more=1))
    assert [line.partition(": ")[0] for line in found] == [
        "spec.baseModel.uri",
        "spec.hyperparameters.epochs",
        "spec.more",
    ]


def test_a_run_that_is_neither_here_nor_known_is_a_fault():
    waiting = manifests.run("child", start=after("parent"))
    message = "no TrainingRun parent here: add it, or say --known parent where it exists"
    assert between_told(waiting) == {"trun/child": [f"spec.baseModel.fromRun.name: {message}"]}
    assert between_told(waiting, known=("parent",)) == {}
    assert between_told(waiting, manifests.run("parent")) == {}


def test_a_run_of_another_namespace_is_not_here():
    elsewhere = {**manifests.run("parent"), "metadata": {"name": "parent", "namespace": "other"}}
    assert list(between_told(manifests.run("child", start=after("parent")), elsewhere)) == ["trun/child"]


REFERENCES: dict[str, tuple[Any, str]] = {
    "a dataset": (manifests.run(environment={"dataset": after("x")}), "spec.environment.dataset.fromRun.name"),
    "a reward model": (
        manifests.run(environment={"dataset": {"uri": "file:///d"}, "rewards": [{"model": after("x")}]}),
        "spec.environment.rewards[0].model.fromRun.name",
    ),
    "a teacher": (manifests.run(distill={"teacher": after("x")}), "spec.distill.teacher.fromRun.name"),
    "an adapter to merge": (
        manifests.run(method="merge", merge={"runs": [{"name": "dates"}, {"name": "x"}]}),
        "spec.merge.runs[1].name",
    ),
    "an adapter to serve": (manifests.deployment({"name": "a", **after("x")}), "spec.adapters[0].fromRun.name"),
    "a base to serve": (manifests.deployment(baseModel=after("x")), "spec.baseModel.fromRun.name"),
}


@pytest.mark.parametrize(("content", "place"), REFERENCES.values(), ids=REFERENCES.keys())
def test_each_way_of_naming_a_run_is_seen(content: Object, place: str):
    assert [reference.path for reference in between.references(content) if reference.run == "x"] == [place]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_chain_is_good_in_any_order(order: tuple[int, ...]):
    chain = [manifests.run("a"), manifests.run("b", start=after("a")), manifests.run("c", start=after("b"))]
    assert between_told(*(chain[index] for index in order)) == {}


def test_a_cycle_is_told_at_each_of_its_runs():
    circle = [manifests.run("a", start=after("b")), manifests.run("b", start=after("a"))]
    found = between_told(*circle, manifests.run("c", start=after("b")))
    assert found.keys() == {"trun/a", "trun/b"}
    assert all("wait for each other for ever" in fault for own in found.values() for fault in own)


def test_a_run_that_names_itself_is_a_cycle():
    found = between_told(manifests.run("a", start=after("a")))
    message = "the runs wait for each other for ever (a → a): name a run before them"
    assert found == {"trun/a": [f"spec.baseModel.fromRun.name: {message}"]}


def test_two_of_one_name_are_a_fault_of_the_later_one():
    found = between_told(manifests.run("a"), manifests.deployment(name="a"), manifests.run("a"))
    assert found == {"trun/a": ["metadata.name: here has the same name: choose another"]}


def test_standard_input_and_lists_are_read(monkeypatch: pytest.MonkeyPatch):
    content = {"kind": "List", "items": [manifests.run("a"), manifests.run("b")]}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"---\n{content}\n---\n"))
    assert [(each.label, each.place) for each in documents.read(["-"])] == [
        ("trun/a", "standard input, document 1, items[0]"),
        ("trun/b", "standard input, document 1, items[1]"),
    ]


UNREADABLE = {
    "no YAML": ("a: [", "this is no YAML"),
    "no object": ("- 1", "this is no object: write apiVersion, kind, metadata and spec"),
    "nothing of ours": ("kind: ConfigMap", "there is no TrainingRun and no AdapterDeployment"),
}


@pytest.mark.parametrize(("text", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_of_no_use_is_a_failure(tmp_path: Path, text: str, expected: str):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(Failure, match=f"{file}.*: {expected}"):
        judged(str(file))


def test_a_missing_file_is_a_failure():
    with pytest.raises(Failure, match="/no/such: cannot be read: No such file or directory"):
        judged("/no/such")
