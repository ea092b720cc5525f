"""A real vLLM beside a training: it answers with the weights of each step, and forgets nothing that is not old."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.e2e.test_server_local import SOURCES, _free_port, _python
from tests.unit.trainer import builders

from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.rl.engine import Engine

pytestmark = pytest.mark.e2e
SAMPLING = {"temperature": 1.0, "max_tokens": 8, "ignore_eos": True}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """A base, a folder for adapters, and the rollout container's program on them."""
    root = tmp_path_factory.mktemp("rollout")
    base, port = builders.base(root / "base"), _free_port()
    command = ["rollout", f"--base=file://{base}", "--max-rank=8", "--max-model-length=160", "--dtype=float32"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in SOURCES)}
    (root / "adapters").mkdir()
    with (root / "log").open("wb") as log:
        engine = subprocess.Popen(
            [_python(), "-m", "posttrain_server", *command, f"--port={port}"], stdout=log, stderr=log, env=environment
        )
    try:
        yield Places(claims=root / "claims", rollout_url=f"http://127.0.0.1:{port}", rollout_folder=root / "adapters")
    finally:
        engine.terminate()
        engine.wait(30)


def test_vllm_answers_with_the_weights_of_each_step(places: Places) -> None:
    base = places.rollout_folder.parent / "base"
    rows = builders.json_lines(base.parent / "rows.jsonl", builders.exchanges(12))
    config = builders.run(
        base,
        rows,
        method="grpo",
        allowUntunedBase=True,
        environment={
            "dataset": {"uri": f"file://{rows}"},
            "chatTemplate": {"inline": builders.CHATML},
            "rewards": [{"builtin": "length", "maxCharacters": 4}],
            "allowNoSignal": True,
        },
        hyperparameters={"maxSteps": 3, "effectiveBatchSize": 16, "learningRate": 0.05, "maxLength": 64},
        grpo={"groupSize": 4, "maxCompletionTokens": 16, "rollout": {"mode": "server"}},
    )
    progress = Progress("double")
    training.train(config, places, progress, Stop())

    mismatches = [step["samplingMismatch"] for step in progress.history]
    assert len(mismatches) == 3
    assert max(mismatches) < 1e-3, "the probabilities are those of the weights that are trained"
    assert _loaded(places) == ["step-2"]
    assert [folder.name for folder in places.rollout_folder.iterdir()] == ["step-2"]


def test_an_engine_that_has_forgotten_an_adapter_is_told_again(places: Places) -> None:
    assert places.rollout_url is not None
    tuned = _adapter(places)
    engine = Engine(places.rollout_url, places.rollout_folder)
    asked: dict[str, Any] = {"version": 7, "seed": 0, "sampling": SAMPLING}
    first = engine.answered(tuned, [[40, 41], [42, 43], [40, 41]], **asked)
    httpx.post(f"{places.rollout_url}/v1/unload_lora_adapter", json={"lora_name": "step-7"}).raise_for_status()
    assert engine.answered(tuned, [[40, 41], [42, 43], [40, 41]], **asked) == first
    assert len({tuple(tokens) for tokens, _ in first}) == 3, "each answer is a draw of its own"
    assert _loaded(places) == ["step-7"]


def _loaded(places: Places) -> list[str]:
    models = httpx.get(f"{places.rollout_url}/v1/models").json()["data"]
    return [model["id"] for model in models if model["parent"]]


def _adapter(places: Places) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(places.rollout_folder.parent / "base")
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
