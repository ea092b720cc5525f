"""The base of a pod: what a folder promises of its content is true, or the pod is not ready."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.server.builders import publish_merged, publish_model, write_model
from tests.unit.server.pod_stand_in import Pod

from posttrain_api import artifact
from posttrain_api.artifact import Kind
from posttrain_api.conditions import Reason
from posttrain_server import checkpoint
from posttrain_server.agent.base import Base


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The claim `models`."""
    (tmp_path / "claims/models").mkdir(parents=True)
    return tmp_path / "claims/models"


def bare(models: Path) -> Path:
    write_model(models / "tiny")
    return models / "tiny"


def foreign(models: Path) -> Path:
    """Other programs call files manifest.json too."""
    (bare(models) / "manifest.json").write_text('{"made": "elsewhere"}')
    return models / "tiny"


def copied(models: Path) -> Path:
    """An artifact under another name."""
    return publish_model(models).rename(models / "copied")


@pytest.mark.parametrize("publish", [bare, foreign, copied, publish_merged, publish_model])
async def test_a_base_is_known_by_its_digest(models: Path, publish: Callable[[Path], Path], tmp_path: Path):
    folder = publish(models)
    base = Base(folder, memory=tmp_path / "base.json")

    async with asyncio.timeout(5):
        await base.know()

    assert (base.digest, base.failure, base.is_awaited) == (artifact.base_digest(folder), None, False)


def change_weights(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"other")
    return folder


def change_manifest(folder: Path) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "method": "dpo"}))
    return folder


def add_file(folder: Path) -> Path:
    (folder / "chat_template.jinja").write_text("other")
    return folder


def remove_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("publish", "change", "fault"),
    [
        pytest.param(publish_merged, change_weights, r"it is sha256:\w+, and its folder is base-", id="a merged base"),
        pytest.param(publish_model, change_weights, r"model.safetensors has sha256", id="a model"),
        pytest.param(copied, change_weights, r"model.safetensors has sha256", id="a model under another name"),
        pytest.param(publish_model, add_file, r"chat_template.jinja is not named in the manifest", id="a file more"),
        pytest.param(publish_model, change_manifest, r"its manifest.json is not that of sha256-", id="its manifest"),
        pytest.param(publish_model, remove_manifest, r"its manifest.json is not that of sha256-", id="no manifest"),
    ],
)
async def test_a_pod_with_a_base_that_was_changed_is_not_ready(
    models: Path, publish: Callable[[Path], Path], change: Callable[[Path], Path], fault: str
):
    folder = change(publish(models))
    pod = Pod(models.parents[1], base=folder.relative_to(models.parent))
    async with pod.agent() as running:
        await running.post()
        await running.until(lambda: running.agent.report().engine.state == "Failed")
        engine, ready = running.agent.report().engine, await running.http.get("/readyz")

    assert (ready.status_code, engine.reason, engine.base_digest) == (503, Reason.DIGEST_MISMATCH, None)
    assert re.search(f"the base was changed after it was published: {fault}", engine.message or "")


async def test_a_base_that_was_put_right_is_taken(models: Path):
    folder = publish_merged(models)
    right = (folder / "model.safetensors").read_bytes()
    pod = Pod(models.parents[1], base=change_weights(folder).relative_to(models.parent))
    async with pod.agent() as running:
        await running.post()
        await running.until(lambda: running.agent.report().engine.state == "Failed")
        (folder / "model.safetensors").write_bytes(right)
        await running.until(running.agent.is_ready)


async def test_a_restarted_agent_does_not_read_the_base_again(models: Path, tmp_path: Path):
    folder, memory = publish_merged(models), tmp_path / "base.json"
    first, second, third = (Base(folder, memory=memory, retry_seconds=0) for _ in range(3))
    await first.know()
    weights = folder / "model.safetensors"
    size, times = weights.stat().st_size, (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)

    weights.write_bytes(b"x" * size)
    os.utime(weights, ns=times)
    async with asyncio.timeout(5):
        await second.know()
    os.utime(weights, ns=(0, 0))
    task = asyncio.create_task(third.know())
    async with asyncio.timeout(5):
        while third.failure is None:
            await asyncio.to_thread(lambda: None)
    task.cancel()

    assert second.digest == first.digest, "same names, sizes and times: what was found is still so"
    assert (third.digest, third.failure.reason) == (None, Reason.DIGEST_MISMATCH)


async def test_a_bare_base_is_not_waited_for(models: Path):
    (models / "tiny").mkdir()
    pod = Pod(models.parents[1])
    async with pod.agent() as running:
        await running.post()
        await running.until(running.agent.is_ready)
        assert running.agent.report().engine.base_digest is None, "there is nothing in it to hash yet"


async def test_an_adapter_that_was_trained_on_a_merge_is_refused_on_the_bare_base_by_digest(models: Path):
    merge = publish_merged(models)
    on_merge = Pod(models.parents[1], base=merge.relative_to(models.parent))
    adapter = on_merge.publish("support")
    async with on_merge.agent() as running:
        await running.post(adapter)
        await running.settled(adapter)

    on_bare = Pod(models.parents[1])
    async with on_bare.agent() as running:
        await running.post(adapter)
        await running.settled(adapter, state="Failed")
        report = running.state(adapter)
        assert (report.reason, await running.ask("support")) == (Reason.BASE_MISMATCH, 503)

    merged, here = (artifact.base_digest(folder)[:19] for folder in (merge, on_bare.folder))
    assert report.message == f"the adapter belongs to the base {merged} (pvc://models/tiny), this server has {here}"


async def test_a_reward_model_takes_no_adapters(models: Path):
    pod = Pod(models.parents[1], base=publish_model(models, kind="reward-model").relative_to(models.parent))
    adapter = pod.publish("support")
    async with pod.agent() as running:
        await running.post(adapter)
        await running.settled(adapter, state="Failed")
        assert running.state(adapter).reason == Reason.UNSUPPORTED_ADAPTER
        await running.until(running.agent.is_ready)
    assert pod.engines.vllm.asked == []


def classifying(models: Path) -> Path:
    write_model(models / "judge", architectures=["Qwen2ForSequenceClassification"])
    return models / "judge"


@pytest.mark.parametrize(
    ("publish", "runner"),
    [
        pytest.param(bare, "generate", id="a model made elsewhere"),
        pytest.param(publish_merged, "generate", id="a merged base"),
        pytest.param(publish_model, "generate", id="a model of ours"),
        pytest.param(lambda root: publish_model(root, kind="reward-model"), "pooling", id="a reward model of ours"),
        pytest.param(classifying, "pooling", id="a reward model made elsewhere"),
    ],
)
def test_the_folder_says_whether_a_base_writes_or_scores(models: Path, publish: Callable[[Path], Path], runner: str):
    assert checkpoint.runner(publish(models)) == runner


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("lora", r"is an adapter: name it under adapters, or its run in baseModel\.fromRun, which merges it"),
        ("prompt", r"is a prompt, which vLLM cannot serve: train with tuning\.lora or tuning\.full"),
        ("dataset", r"is a dataset: train on it, and serve what was trained"),
    ],
)
def test_what_is_no_model_is_refused_as_a_base(models: Path, kind: Kind, advice: str):
    with pytest.raises(ValueError, match=advice):
        checkpoint.runner(publish_model(models, kind=kind))
