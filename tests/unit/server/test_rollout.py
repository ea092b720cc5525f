"""vLLM beside a trainer: what the operator asks for is what vLLM is told."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.training_run.golden import training

from posttrain_server import __main__ as program
from posttrain_server import rollout
from posttrain_server.rollout import RolloutSettings

SETTINGS = RolloutSettings(base=Path("/models/tiny"), dtype="float32", max_rank=16, max_model_length=320, port=8100)
CPU = {"--enforce-eager", "--worker-cls"}


def options(settings: RolloutSettings) -> dict[str, str | None]:
    """A command line as a dictionary."""
    line = [*rollout.arguments(settings), "--"]
    pairs = itertools.pairwise(line)
    return {word: None if after.startswith("--") else after for word, after in pairs if word.startswith("--")}


def test_the_command_line_on_the_cpu():
    assert options(SETTINGS) == {
        "--model": "/models/tiny",
        "--served-model-name": "base",
        "--dtype": "float32",
        "--host": "127.0.0.1",
        "--port": "8100",
        "--max-model-len": "320",
        "--enable-lora": None,
        "--max-lora-rank": "16",
        "--max-loras": "2",
        "--max-cpu-loras": "4",
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",
        "--disable-fastapi-docs": None,
        "--disable-uvicorn-access-log": None,
        "--enforce-eager": None,
        "--worker-cls": "posttrain_server.cpu_worker.Worker",
    }


@pytest.mark.parametrize(
    ("num_gpus", "more"),
    [
        pytest.param(1, {"--gpu-memory-utilization": "0.3"}, id="one GPU"),
        pytest.param(2, {"--gpu-memory-utilization": "0.3", "--tensor-parallel-size": "2"}, id="two GPUs"),
    ],
)
def test_on_gpus_it_takes_its_share_of_them(num_gpus: int, more: dict[str, str]):
    on_cpu = {name: value for name, value in options(SETTINGS).items() if name not in CPU}
    assert options(replace(SETTINGS, num_gpus=num_gpus)) == on_cpu | more


def test_a_pod_may_change_defaults_and_the_routes_that_load_stay_open():
    found = rollout.environment(SETTINGS, {"VLLM_CPU_KVCACHE_SPACE": "8", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0"})
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]) == ("8", "1")
    assert found["VLLM_CACHE_ROOT"].startswith("/tmp/")


@pytest.mark.parametrize(
    ("config", "length"),
    [
        pytest.param({"max_position_embeddings": 256}, 256, id="a short base"),
        pytest.param({"max_position_embeddings": 32768}, 320, id="a long base"),
        pytest.param({"text_config": {"max_position_embeddings": 128}}, 128, id="one that sees as well"),
        pytest.param({}, 320, id="one that does not say"),
    ],
)
def test_the_longest_answer_fits_the_base(tmp_path: Path, config: dict[str, Any], length: int):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert rollout.fitting_length(320, tmp_path) == length


def test_the_operator_and_the_program_speak_of_the_same_options():
    rewards = {"dataset": {"uri": "pvc://data/rows"}, "rewards": [{"builtin": "exact"}]}
    base = {"uri": "pvc://models/tiny", "tuned": True}
    job = training(method="grpo", baseModel=base, environment=rewards, grpo={"rollout": {"mode": "server"}})
    (container,) = job["spec"]["template"]["spec"]["initContainers"]

    found = program._parser().parse_args(container["args"])

    assert (found.base, found.dtype, found.max_rank, found.gpus) == ("pvc://models/tiny", "bfloat16", 16, 1)
