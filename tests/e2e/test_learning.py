"""The whole path: from two manifests to adapters that learned, measured by the run and once more by others' code."""

from pathlib import Path

import pytest
from examples.demo import measure
from tests.e2e.assistants import Assistants
from tests.live import condition

TASKS = ("dates", "numbers")


@pytest.mark.parametrize("task", TASKS)
def test_a_run_learned_what_it_was_shown(assistants: Assistants, task: str):
    status = assistants.run(task)["status"]
    assert status["evaluation"]["before"]["exactMatch"] < 0.05
    assert status["evaluation"]["after"]["exactMatch"] >= 0.90
    assert status["evaluation"]["after"]["loss"] < status["evaluation"]["before"]["loss"]


@pytest.mark.parametrize("task", TASKS)
def test_plain_peft_and_transformers_measure_the_same(assistants: Assistants, task: str):
    folder = assistants.artifact_folder(task)
    again = measure.exact_match(base=assistants.base_folder(), adapter=folder, rows=assistants.held_out(task))
    assert again >= 0.90
    assert again == pytest.approx(assistants.run(task)["status"]["evaluation"]["after"]["exactMatch"], abs=0.02)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_is_proven_and_tells_where_it_comes_from(assistants: Assistants, task: str):
    run = assistants.run(task)
    status = run["status"]
    assert condition(run, "Ready")["status"] == "True"
    assert status["phase"] == "Succeeded"
    assert status["observedGeneration"] == run["metadata"]["generation"]
    assert status["artifact"]["uri"].endswith(status["artifact"]["digest"].replace(":", "-"))
    assert status["lineage"]["recipeDigest"].startswith("sha256:")
    assert status["lineage"]["baseModel"]["digest"] == status["artifact"]["base"]["digest"]
    assert "⟦" in status["mask"]
    assert status["progress"]["percent"] == 100


@pytest.mark.parametrize("task", TASKS)
def test_progress_was_told_while_it_trained(assistants: Assistants, task: str):
    seen = assistants.seen[task]
    phases = list(dict.fromkeys(status["phase"] for status in seen if status.get("phase")))
    assert phases[-3:] == ["Preflight", "Training", "Succeeded"]
    training = [status for status in seen if status.get("phase") == "Training" and status.get("progress")]
    steps = [status["progress"]["step"] for status in training]
    assert steps == sorted(steps)
    assert len({step for step in steps if step > 0}) >= 3
    assert any(status["display"]["eta"] for status in training)
    assert any(status["display"]["metric"].startswith("loss ") for status in training)


def test_the_artifact_is_a_plain_peft_adapter(assistants: Assistants):
    names = {path.name for path in Path(assistants.artifact_folder("dates")).iterdir()}
    assert names >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "manifest.json",
        "report.json",
        "README.md",
    }
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_columns_tell_a_person_what_happened(assistants: Assistants):
    shown = assistants.namespace.kubectl("get", "trun", "dates").stdout.split("\n")
    assert shown[0].split() == ["NAME", "METHOD", "PHASE", "PROGRESS", "METRIC", "ETA", "AGE"]
    assert shown[1].split()[:4] == ["dates", "sft", "Succeeded", "100%"]
