"""What `estimate` says of a file's runs: the trainer itself reads them, in a process of its own."""

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

from posttrain_api.trainer_contract import PreflightReport
from posttrain_api.v1alpha1.training_run_status import DataReport, Estimate, MemoryEstimate, ModelReport
from posttrain_cli import report_table, stand_ins
from posttrain_cli.documents import Document
from posttrain_cli.estimate import Here, estimate
from posttrain_cli.failure import Failure

SELECTING = {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"}}
TEMPLATE = {"inline": trainer_builders.MARKED_CHATML}


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the claims `models` and `data`."""
    folder = tmp_path_factory.mktemp("claims")
    trainer_builders.base(folder / "models" / "base")
    trainer_builders.json_lines(folder / "data" / "train.jsonl", trainer_builders.exchanges(20))
    return folder


def said(file: str, here: Here) -> tuple[int, str]:
    """Exit code and what is printed."""
    console = Console(file=io.StringIO(), highlight=False, width=120)
    code = estimate([file], console, here)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def teaching(name: str = "dates", *, start: Object | None = None, **spec: Any) -> Object:
    """A run that the tiny base can learn."""
    environment = {"dataset": {"uri": "pvc://data/train.jsonl"}, "chatTemplate": TEMPLATE}
    numbers = {"effectiveBatchSize": 8, "epochs": 1, "maxLength": 128}
    return manifests.run(name, **{"environment": environment, "hyperparameters": numbers, "start": start, **spec})


def test_runs_are_read_by_the_trainer_and_nothing_is_written(tmp_path: Path, claims: Path):
    before = sorted(claims.rglob("*"))
    rows = "".join(json.dumps(row) + "\n" for row in trainer_builders.exchanges(10))
    environment = {"dataset": {"configMap": {"name": "rows", "key": "train.jsonl"}}}
    file = written(
        tmp_path / "runs.yaml",
        # Neither its base nor its template is here but by the run that it follows.
        teaching("second", start=after("first"), environment=environment),
        teaching("first", output={"uri": "pvc://data/out"}, podTemplate=SELECTING),
        manifests.config_map("rows", **{"train.jsonl": rows}),
    )
    code, text = said(file, Here(claims=[claims], python=sys.executable))
    assert code == 0, text
    first, second = text[text.index("trun/first") :], text[: text.index("trun/first")]
    assert all(word in first for word in ("rows                  19", "steps                 3", "⟦0<|im_end|>⟧"))
    assert "time                  1 s on NVIDIA-H200" in first
    assert all(word in second for word in ("trun/second", "rows                  9", "steps                 2"))
    assert "time and cost         not known: the run asks for no GPU of the chart's gpus.table" in second
    assert sorted(claims.rglob("*")) == before


def test_a_refusal_is_the_trainers_and_ends_in_1(tmp_path: Path, claims: Path):
    rows = json.dumps({"prompt": "x"}) + "\n"
    environment = {"dataset": {"configMap": {"name": "rows", "key": "a"}}, "chatTemplate": TEMPLATE}
    file = written(tmp_path / "a.yaml", teaching(environment=environment), manifests.config_map("rows", a=rows))
    code, text = said(file, Here(claims=[claims], python=sys.executable))
    assert code == 1
    assert text.startswith("trun/dates: DatasetInvalid: ConfigMap rows, key a")


def test_what_is_not_here_is_named_before_the_trainer_is_asked(tmp_path: Path, claims: Path):
    file = written(tmp_path / "a.yaml", manifests.run())
    nobody = Here(python="/no/such/python")
    assert said(file, nobody) == (
        1,
        "trun/dates: the claim data is not here: say --claims FOLDER, where FOLDER/data holds what it holds\n",
    )
    named = {"dataset": {"configMap": {"name": "rows", "key": "a"}}}
    file = written(tmp_path / "b.yaml", manifests.run(environment=named))
    code, text = said(file, Here(claims=[claims], python="/no/such/python"))
    assert (code, text.startswith("trun/dates: the ConfigMap rows is not here: add it to the file")) == (1, True)


def test_what_lies_in_the_image_is_read_from_a_folder(tmp_path: Path, claims: Path):
    run = teaching(start={"uri": "file:///no/such/models/base"})
    file = written(tmp_path / "a.yaml", run)
    code, text = said(file, Here(claims=[claims], python="/no/such/python"))
    assert code == 1
    assert text.startswith(
        "trun/dates: file:///no/such/models/base lies in the trainer's image, and not here: say --image"
    )
    image = tmp_path / "image" / "no" / "such"
    image.mkdir(parents=True)
    (image / "models").symlink_to(claims / "models")
    code, text = said(file, Here(claims=[claims], image=tmp_path / "image", python=sys.executable))
    assert (code, "rows                  19" in text) == (0, True), text


def test_a_folder_of_config_maps_is_read_where_the_file_has_none(tmp_path: Path, claims: Path):
    trainer_builders.json_lines(tmp_path / "maps" / "rows" / "a", trainer_builders.exchanges(5))
    environment = {"dataset": {"configMap": {"name": "rows", "key": "a"}}, "chatTemplate": TEMPLATE}
    file = written(tmp_path / "a.yaml", teaching(environment=environment))
    code, text = said(file, Here(claims=[claims], config_maps=tmp_path / "maps", python=sys.executable))
    assert (code, "rows                  4" in text) == (0, True), text


def test_a_python_without_the_trainer_is_told(tmp_path: Path, claims: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "")
    code, text = said(written(tmp_path / "a.yaml", teaching()), Here(claims=[claims], python=sys.executable))
    assert code == 1
    assert f"trun/dates: {sys.executable} has no trainer" in text
    assert "install posttrain[trainer] there, or name a Python that has it by --python" in text
    code, text = said(written(tmp_path / "a.yaml", teaching()), Here(claims=[claims], python="/no/such/python"))
    assert (code, text) == (
        1,
        "trun/dates: --python /no/such/python: cannot be started: No such file or directory\n",
    )


def stood_in(run: Object, *others: Object) -> Object:
    """The spec of a run whose `fromRun` are replaced."""
    documents = [Document("here", content) for content in (run, *others)]
    found: Object = stand_ins.standing_in(documents[0], {each.name: each for each in documents}).content["spec"]
    return found


def test_a_chain_is_followed_to_its_model_and_its_last_template():
    first, last = {"inline": "first"}, {"inline": "last"}
    data = {"uri": "file:///d"}
    chain = [
        manifests.run("a", environment={"dataset": data, "chatTemplate": first}),
        manifests.run("b", start=after("a"), environment={"dataset": data, "chatTemplate": last}),
    ]
    found = stood_in(manifests.run("c", start=after("b"), method="dpo"), *chain)
    assert found["baseModel"] == {"uri": "pvc://models/base", "tuned": True}
    assert found["environment"]["chatTemplate"] == last


def test_a_teacher_of_the_file_is_its_base():
    found = stood_in(manifests.run("b", method="distill", distill={"teacher": after("a")}), manifests.run("a"))
    assert found["distill"] == {"teacher": {"uri": "pvc://models/base"}}


UNKNOWN = {
    "a base that is not in the file": ([manifests.run("b", start=after("a"))], "the model that a makes is not known"),
    "a base that is no language model": (
        [manifests.run("b", start=after("a")), manifests.run("a", method="reward")],
        "the model that a makes is not known",
    ),
    "a circle": (
        [manifests.run("b", start=after("a")), manifests.run("a", start=after("b"))],
        "spec.baseModel.fromRun: the model that b makes is not known",
    ),
    "rows": (
        [manifests.run("b", environment={"dataset": after("a")}), manifests.run("a", method="bestOf")],
        "spec.environment.dataset.fromRun.name: what a makes is not here before it has run",
    ),
}


@pytest.mark.parametrize(("documents", "expected"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_nothing_can_stand_in_for_is_told(documents: list[Object], expected: str):
    with pytest.raises(Failure, match=f"trun/b: .*{expected}"):
        stood_in(*documents)


def test_every_finding_has_its_line():
    report = PreflightReport(
        estimate=Estimate(
            rows=52_002,
            trained_tokens=1_000,
            total_tokens=4_000,
            total_steps=3_251,
            trainable_parameters=540_672,
            memory_gib=3.5,
            memory=MemoryEstimate(weights=3.25, optimizer=0.01),
            gpu="NVIDIA-L4",
            duration_seconds=5_400,
            cost="3.75",
            currency="USD",
        ),
        model=ModelReport(
            parameters=494_032_768,
            layers=24,
            hidden_size=896,
            vocabulary=151_936,
            tuned_modules={"q_proj": 24, "v_proj": 24},
        ),
        data=DataReport(
            rows_read=52_100,
            held_out_rows=98,
            duplicates=3,
            trained_share=0.25,
            length_p50=10,
            length_p90=20,
            length_p99=30,
            length_max=40,
            desirable_share=0.6,
            end_of_turn="<|im_end|>",
        ),
        mask="Hello ⟦world⟧",
        warnings=["learningRate is unusual"],
        dataset_digest="sha256:0",
    )
    console = Console(file=io.StringIO(), highlight=False, width=100)
    console.print(report_table.table(report, title="trun/dates"))
    assert isinstance(console.file, io.StringIO)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [
        "trun/dates",
        "rows                  52,002",
        "tokens                4,000 in one pass, 1,000 of them learned",
        "steps                 3,251",
        "trainable parameters  540,672",
        "memory                3.50 GiB (weights 3.25 GiB, optimizer 10.2 MiB)",
        "time                  1 h 30 min on NVIDIA-L4",
        "cost                  3.75 USD",
        "base                  494,032,768 parameters: 24 layers of width 896, 151,936 tokens",
        "tuned layers          24 q_proj, 24 v_proj",
        "rows read             52,100, 98 of them held out to judge by",
        "lengths in tokens     10 / 20 / 30 / 40 (50 %, 90 %, 99 %, longest)",
        "learned tokens        25.0%",
        "duplicates            3",
        "desirable             60.0%",
        "end of turn           <|im_end|>",
        "what is learned       Hello ⟦world⟧",
        "warning               learningRate is unusual",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "1 s"), (59, "59 s"), (90, "2 min"), (3_600, "1 h 00 min"), (12_000, "3 h 20 min")]
)
def test_a_time_is_short(seconds: float, expected: str):
    assert report_table.duration(seconds) == expected


def test_a_report_file_may_hold_more_than_a_report():
    estimate = {"rows": 1, "trainedTokens": 1, "totalTokens": 1, "totalSteps": 1, "trainableParameters": 1}
    file = {
        "estimate": {**estimate, "memoryGib": 0.0},
        "mask": "x",
        "datasetDigest": "sha256:0",
        "warnings": ["first"],
        "masks": ["x", "y"],
        "problems": [f"row {number}" for number in range(20)],
    }
    found = report_table.parsed(file)
    assert (found.mask, found.estimate.rows) == ("x", 1)
    assert found.warnings == ["first", *(f"row {number}" for number in range(10))]
