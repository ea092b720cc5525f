"""Adapters in a real cluster: they answer under their names, new ones come without a restart, wrong ones do no harm."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import urllib3
from tests.e2e.assistants import Assistants, adapter_state
from tests.live import Namespace, condition, has_condition

from posttrain_api import artifact

OTHER_DIGEST = "sha256:" + "1" * 64


def test_each_adapter_answers_its_own_task(assistants: Assistants):
    for task in ("dates", "numbers"):
        asked = assistants.held_out(task)[:10]
        right = [assistants.ask(task, row.question) == row.answer for row in asked]
        by_base = [assistants.ask("base", row.question) == row.answer for row in asked]
        assert sum(right) >= 8, task
        assert sum(by_base) == 0, task


def test_an_answer_names_the_model_that_the_user_chose(assistants: Assistants):
    ask = assistants.client.chat.completions.create
    question = assistants.messages("1 May 2020")
    assert ask(model="dates", messages=question, max_tokens=20).model == "dates"
    stream = ask(model="dates", messages=question, max_tokens=20, stream=True)
    assert {chunk.model for chunk in stream} == {"dates"}
    assert {model.id for model in assistants.client.models.list()} >= {"base", "dates", "numbers"}


def test_an_unknown_model_is_404_and_none_is_400(assistants: Assistants):
    with pytest.raises(openai.NotFoundError) as unknown:
        assistants.ask("poems", "hello")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        assistants.ask("", "hello")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/adapters"),
        ("DELETE", "/adapters/dates"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("POST", "/generative_scoring"),
        ("GET", "/load"),
        ("GET", "/metrics"),
        ("GET", "/version"),
        ("POST", "/scale_elastic_ep"),
        ("POST", "/collective_rpc"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/chat/completions/batch"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/load_lora_adapter"),
    ],
)
def test_every_other_door_is_shut(assistants: Assistants, method: str, path: str):
    answer = urllib3.request(method, assistants.url + path, json={"model": "dates"}, redirect=False, retries=False)
    assert answer.status in (403, 404)
    assert "message" in answer.json()["error"]


def test_an_adapter_from_a_uri_is_loaded_by_its_digest(assistants: Assistants):
    found = assistants.run("dates")["status"]["artifact"]
    with assistants.deployed(name="pinned", uri=found["uri"], digest=found["digest"]):
        assistants.wait_for_adapter("pinned", "Loaded")
        assert assistants.ask("pinned", "3 May 2021") == assistants.ask("dates", "3 May 2021")


Change = Callable[[Path], None]


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """A manifest that says something else and still fits its files."""
    path = folder / artifact.MANIFEST_FILE
    files = artifact.payload(folder)
    entries = {name: entry.to_json() for name, entry in files.items()}
    manifest = json.loads(path.read_text())
    manifest.update(files=entries, weightsDigest=artifact.files_digest(files), **changes)
    path.write_bytes(artifact.canonical_json(manifest))


def rewrite_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_base(folder: Path) -> None:
    rewrite_manifest(folder, base={"uri": "file:///models/other", "digest": OTHER_DIGEST})


def high_rank(folder: Path) -> None:
    rewrite_config(folder, r=512)
    rewrite_manifest(folder, rank=512)


def dora(folder: Path) -> None:
    rewrite_config(folder, use_dora=True)
    rewrite_manifest(folder)


def no_effect(folder: Path) -> None:
    """Reference values of an adapter that this one is not."""
    manifest = json.loads((folder / artifact.MANIFEST_FILE).read_text())
    shifted = [{**probe, "result": [value - 3.0 for value in probe["result"]]} for probe in manifest["probes"]]
    rewrite_manifest(folder, probes=shifted)


def other_bytes(folder: Path) -> None:
    """Bytes swapped under a digest that no pod has a good copy of."""
    rewrite_manifest(folder, method="another")
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(other_base, "BaseMismatch", id="another base"),
        pytest.param(high_rank, "RankTooLarge", id="a rank above the engine's"),
        pytest.param(dora, "UnsupportedAdapter", id="DoRA"),
        pytest.param(other_bytes, "DigestMismatch", id="other bytes"),
        pytest.param(no_effect, "BehaviourMismatch", id="another behaviour"),
    ],
)
def test_a_wrong_adapter_fails_alone(assistants: Assistants, tmp_path: Path, change: Change, reason: str):
    folder = tmp_path / "adapter"
    shutil.copytree(assistants.artifact_folder("dates"), folder)
    change(folder)
    digest = artifact.Manifest.model_validate_json((folder / artifact.MANIFEST_FILE).read_bytes()).digest
    uri = assistants.publish(folder, reason.lower())
    with assistants.deployed(name="wrong", uri=uri, digest=digest):
        deployment = assistants.wait_for_adapter("wrong", "Failed")
        failed = adapter_state(deployment, "wrong")
        assert failed["reason"] == reason, failed
        assert condition(deployment, "Ready")["status"] == "False"
        assert adapter_state(deployment, "dates")["state"] == "Loaded"
        assert assistants.ask("dates", "3 May 2021")
        with pytest.raises(openai.APIStatusError):
            assistants.ask("wrong", "3 May 2021")


def test_an_accepted_run_answers_soon_and_without_a_restart(assistants: Assistants):
    before = assistants.server_pods()
    assistants.start_run("late", like="numbers", maxSteps=30)
    with assistants.deployed(name="late", fromRun={"name": "late"}):
        seconds = assistants.seconds_from_accepted_to_answer("late", model="late")
        assert seconds <= 5
    assert assistants.server_pods() == before


def test_a_deployment_is_ready_again_without_the_wrong_ones(assistants: Assistants):
    ready: Namespace = assistants.namespace
    deployment = ready.wait_for(
        "AdapterDeployment", "assistants", has_condition("Ready", "True"), within=30, what="Ready"
    )
    counts = {"adapters": "2/2", "replicas": "1/1", "ready": "True", "reason": ""}
    assert deployment["status"]["display"] == {"base": deployment["spec"]["baseModel"]["uri"], **counts}
    assert len(deployment["status"]["pods"][0]["adapters"]) == 2
