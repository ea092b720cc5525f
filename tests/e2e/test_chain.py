"""Runs that build on runs, and gates: what is taught first is built upon, and what is not good enough is not served."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from examples.demo.tasks import DATES_TASK, Row
from tests.e2e import chains
from tests.e2e.assistants import Assistants, example
from tests.e2e.forward import forwarded
from tests.live import Access, Namespace, condition

FILE = Path(__file__).parents[2] / "examples" / "preferences.yaml"
NUM_ANSWERS, NUM_PAIRS = 1600, 640
Object = dict[str, Any]


def sentence(row: Row) -> str:
    """The answer that is liked: the date in a sentence."""
    return f"It is {row.answer}."


def answer(place: int, row: Row) -> str:
    """A row of answers.jsonl: bare dates and sentences in turn."""
    return json.dumps({"prompt": row.question, "completion": row.answer if place % 2 else sentence(row)}) + "\n"


def pair(row: Row) -> str:
    """A row of pairs.jsonl: the sentence is preferred to the bare date."""
    return json.dumps({"prompt": row.question, "chosen": sentence(row), "rejected": row.answer}) + "\n"


@pytest.fixture(scope="module")
def chain(access: Access, base_uri: str) -> Iterator[Namespace]:
    """The example's three documents, applied in the wrong order, until the deployment is ready."""
    namespace = Namespace(access, "chain")
    namespace.create()
    rows = DATES_TASK.train_rows()
    answers = "".join(answer(place, row) for place, row in enumerate(rows[:NUM_ANSWERS]))
    pairs = "".join(map(pair, rows[:NUM_PAIRS]))
    data = {"answers.jsonl": answers, "pairs.jsonl": pairs}
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "preferences"}, "data": data})
    for manifest in reversed(list(yaml.safe_load_all(FILE.read_text()))):
        if "uri" in manifest["spec"]["baseModel"]:
            manifest["spec"]["baseModel"]["uri"] = base_uri
        namespace.apply(manifest)
    chains.wait_until_served(namespace, "spoken-sft", "spoken-dpo", by="spoken")
    yield namespace
    namespace.remove()


def run_of(namespace: Namespace, name: str) -> Object:
    found = namespace.get("TrainingRun", name)
    assert found is not None
    return found


def test_the_second_run_stands_on_the_first(chain: Namespace):
    first, second = (run_of(chain, name)["status"] for name in ("spoken-sft", "spoken-dpo"))
    (merged,) = first["mergedBases"]
    assert merged["artifactDigest"] == first["artifact"]["digest"]
    assert second["artifact"]["base"] == {"uri": merged["uri"], "digest": merged["digest"]}
    assert second["lineage"]["parents"] == {"baseModel": first["artifact"]["digest"]}
    assert len(chain.list("Job", "posttrain.dev/component=merge")) == 1


def test_preferences_were_learned(chain: Namespace):
    evaluation = run_of(chain, "spoken-dpo")["status"]["evaluation"]
    assert evaluation["before"]["preferenceAccuracy"] < 0.5
    assert evaluation["after"]["preferenceAccuracy"] >= 0.9
    assert [gate["passed"] for gate in evaluation["gates"]] == [True]


def test_the_chain_answers_as_it_was_taught(chain: Namespace):
    rows = DATES_TASK.held_out_rows()[:20]
    with forwarded(chain, "svc/spoken", 80) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)
        given = {model: [_ask(client, model, row) for row in rows] for model in ("base", "spoken")}
    spoken = {model: sum(map(_is_spoken, answers, rows)) for model, answers in given.items()}
    assert spoken["spoken"] >= 18, given
    assert spoken["base"] < spoken["spoken"], given


def _ask(client: openai.OpenAI, model: str, row: Row) -> str:
    messages: list[Any] = [{"role": "user", "content": row.question}]
    made = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
    return (made.choices[0].message.content or "").strip()


def _is_spoken(given: str, row: Row) -> bool:
    return given == sentence(row)


def gated(assistants: Assistants, name: str, base_uri: str, **evaluation: Any) -> Object:
    """A run of two steps, which teach nothing, under a gate."""
    manifest = example("dates", base_uri)
    manifest["metadata"]["name"] = name
    numbers = {key: value for key, value in manifest["spec"]["hyperparameters"].items() if key != "epochs"}
    manifest["spec"]["hyperparameters"] = {**numbers, "maxSteps": 2}
    manifest["spec"]["evaluation"] = {**manifest["spec"]["evaluation"], "metrics": ["loss"], **evaluation}
    assistants.namespace.apply(manifest)
    return assistants.namespace.wait_for("TrainingRun", name, chains.is_over, within=180, what="over")


def test_a_failed_gate_keeps_a_result_from_being_served(assistants: Assistants, base_uri: str):
    run = gated(assistants, "hopeless", base_uri, gates=[{"metric": "loss", "max": 0.01}])
    assert condition(run, "Succeeded")["status"] == "True"
    assert (condition(run, "Ready")["status"], condition(run, "Accepted")["reason"]) == ("False", "GateFailed")
    assert "the gate wants it at most 0.01" in condition(run, "Accepted")["message"]
    with assistants.deployed(name="hopeless", fromRun={"name": "hopeless"}):
        entry = next(
            found
            for found in assistants.wait_for_adapter("hopeless", "Failed")["status"]["adapters"]
            if found["name"] == "hopeless"
        )
        assert entry["reason"] == "RunFailed"
        with pytest.raises(openai.NotFoundError):
            assistants.ask("hopeless", "hello")


def test_a_retrained_run_passes_where_the_first_round_did_not(assistants: Assistants, base_uri: str):
    patch = {"hyperparameters": {"maxSteps": 80, "learningRate": 0.003}}
    again = {"action": "Retrain", "maxAttempts": 2, "patch": patch}
    run = gated(assistants, "second-chance", base_uri, gates=[{"metric": "loss", "max": 0.05}], onFailure=again)
    status = run["status"]
    assert condition(run, "Ready")["status"] == "True", status
    assert (status["round"], [gate["passed"] for found in status["rounds"] for gate in found["gates"]]) == (
        1,
        [False, True],
    )
    assert status["progress"]["totalSteps"] == 80
