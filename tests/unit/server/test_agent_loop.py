"""The agent against the real gateway before a stand-in for vLLM: from a posted list to answers, and every repair."""

import json
from pathlib import Path

import pytest
from tests.unit.server.builders import published
from tests.unit.server.pod_stand_in import Pod
from tests.unit.server.vllm_stand_in import Vllm

from posttrain_api import artifact
from posttrain_api.artifact import Manifest
from posttrain_api.conditions import Reason
from posttrain_api.server_contract import DesiredAdapter, DesiredAdapters
from posttrain_server.exchange import engine_name


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A pod whose engine runs."""
    return Pod(tmp_path)


def folder(adapter: DesiredAdapter) -> str:
    return artifact.folder_name(adapter.digest)


async def test_a_posted_adapter_is_loaded_proven_and_only_then_called(pod: Pod):
    support = pod.publish("support")
    version = engine_name("support", support.digest)
    async with pod.agent() as running:
        answer = await running.post(support)
        assert (answer.status_code, answer.json()["adapters"][0]["state"]) == (200, "Pending")
        await running.settled(support)
        assert await running.ask("support") == folder(support)
        assert (await running.http.get("/readyz")).status_code == 200
    assert pod.engines.vllm.asked == [f"load {version}", "probe base", f"probe {version}"]


async def test_the_mounted_file_is_enough(pod: Pod):
    support = pod.publish("support")
    (pod.root / "adapters.json").write_text(json.dumps(DesiredAdapters(adapters=[support]).to_json()))
    async with pod.agent() as running:
        await running.until(lambda: bool(running.agent.report().adapters))
        await running.settled(support)


async def test_a_mounted_file_that_is_none_is_left_alone(pod: Pod):
    (pod.root / "adapters.json").write_text("{")
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)


async def test_a_swap_moves_the_name_and_clears_up(pod: Pod):
    old, new = pod.publish("support"), pod.publish("support", result=-0.5)
    async with pod.agent() as running:
        await running.post(old)
        await running.settled(old)
        await running.post(new)
        await running.settled(new)
        assert await running.ask("support") == folder(new)
        await running.until(lambda: not (pod.root / "state" / folder(old)).exists())
    assert pod.engines.vllm.asked[-1] == f"unload {engine_name('support', old.digest)}"


async def test_a_bad_new_version_leaves_the_old_one_answering(pod: Pod):
    old, new = pod.publish("support"), pod.publish("support", result=-0.5, use_dora=True)
    async with pod.agent() as running:
        await running.post(old)
        await running.settled(old)
        await running.post(new)
        await running.settled(new, state="Failed")
        assert running.state(new).serving_digest == old.digest
        assert await running.ask("support") == folder(old)


async def test_an_adapter_that_does_nothing_is_never_called(pod: Pod):
    pod.engines.vllm.answers_like_base = True
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support, state="Failed")
        assert running.state(support).reason == Reason.BEHAVIOUR_MISMATCH
        assert await running.ask("support") == 503
        await running.until(lambda: pod.engines.vllm.registered == {})
        assert (await running.http.get("/readyz")).status_code == 200, "a failed adapter does not hold up the pod"


async def test_an_engine_that_cannot_load_says_why(pod: Pod):
    pod.engines.vllm.load_error = "no memory"
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support, state="Failed")
        report = running.state(support)
    assert (report.reason, report.message) == (Reason.LOAD_FAILED, "the engine cannot load it: no memory")


async def test_a_broken_adapter_does_not_hold_up_the_others(pod: Pod):
    broken, good = pod.publish("broken", r=64), pod.publish("good")
    async with pod.agent() as running:
        await running.post(broken, good)
        await running.settled(good)
        await running.settled(broken, state="Failed")
        assert running.state(broken).reason == Reason.RANK_TOO_LARGE


async def test_an_adapter_that_is_unloaded_by_hand_comes_back_proven(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
        pod.engines.vllm.registered.clear()
        pod.engines.vllm.asked.clear()
        await running.until(lambda: len(pod.engines.vllm.asked) == 3)
        await running.settled(support)
        assert await running.ask("support") == folder(support)
    assert [word.split()[0] for word in pod.engines.vllm.asked] == ["load", "probe", "probe"]


async def test_a_killed_engine_is_seen_and_its_successor_gets_everything(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
        pod.engines.kill()
        await running.settled(support, state="Pending")
        report = running.agent.report()
        assert (report.engine.state, running.state(support).reason) == ("Failed", Reason.ENGINE_FAILED)
        assert (await running.http.get("/readyz")).status_code == 503
        pod.engines.start(Vllm())
        await running.settled(support)
        assert (await running.http.get("/readyz")).status_code == 200
        assert await running.ask("support") == folder(support)


async def test_an_unhealthy_engine_serves_nothing(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
        pod.engines.vllm.is_healthy = False
        await running.settled(support, state="Pending")
        assert running.agent.report().engine.state == "Failed"


async def test_a_restarted_agent_knows_its_list_and_disturbs_nobody(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
    pod.engines.vllm.asked.clear()
    async with pod.agent() as running:
        await running.settled(support)
        assert await running.ask("support") == folder(support)
    assert pod.engines.vllm.asked == []


async def test_an_adapter_that_is_taken_from_the_list_is_gone(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
        await running.post()
        await running.until(lambda: not (pod.root / "state" / folder(support)).exists())
        assert await running.ask("support") == 404
    assert pod.engines.vllm.registered == {}


async def test_an_artifact_that_comes_late_is_found(pod: Pod):
    support = pod.publish("support")
    place = pod.root / "claims/artifacts"
    place.rename(place.with_name("away"))
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support, state="Failed")
        assert running.state(support).reason == Reason.ADAPTER_NOT_FOUND
        place.with_name("away").rename(place)
        await running.settled(support)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, b"{}", 401, id="no token"),
        pytest.param({"Authorization": "Bearer wrong"}, b"{}", 401, id="a wrong token"),
        pytest.param({"Authorization": "Bearer "}, b"{}", 401, id="an empty token"),
        pytest.param({"Authorization": "Basic secret"}, b"{}", 401, id="another scheme"),
        pytest.param({"Authorization": "Bearer secret"}, b"[]", 400, id="no list"),
        pytest.param({"Authorization": "Bearer secret"}, b" " * 1_100_000, 413, id="too much"),
    ],
)
async def test_a_post_that_is_refused_changes_nothing(pod: Pod, headers: dict[str, str], body: bytes, status: int):
    async with pod.agent() as running:
        response = await running.http.post("/adapters", content=body, headers=headers)
        report = (await running.http.get("/adapters")).json()
    assert (response.status_code, report["adapters"]) == (status, [])
    assert "secret" not in response.text


async def test_metrics_of_agent_gateway_and_engine_come_in_one_answer(pod: Pod):
    support = pod.publish("support")
    async with pod.agent() as running:
        await running.post(support)
        await running.settled(support)
        await running.ask("support")
        await running.until(lambda: 'adapter_loaded{adapter="support"} 1.0' in running.metrics.text().decode())
        text = (await running.http.get("/metrics")).text
    assert 'posttrain_server_adapter_loaded{adapter="support"} 1.0' in text
    assert 'posttrain_server_requests_total{code="200",model="support",route="completions"} 1.0' in text
    assert "vllm:num_requests_running 0" in text


async def test_without_an_engine_the_agents_own_metrics_remain(pod: Pod):
    pod.engines.kill()
    async with pod.agent() as running:
        text = (await running.http.get("/metrics")).text
        alive = await running.http.get("/healthz")
    assert (alive.status_code, "posttrain_server_engine_healthy 0.0" in text, "vllm:" in text) == (200, True, False)


def test_manifests_of_the_builders_are_manifests(tmp_path: Path):
    made = published(tmp_path)
    assert Manifest.model_validate_json((tmp_path / "support/manifest.json").read_bytes()) == made
