"""vLLM's command line and environment, the checkpoint's precision, the key."""

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from posttrain_server import checkpoint, engine, key
from posttrain_server.engine import EngineSettings

SETTINGS = EngineSettings(
    base=Path("/models/tiny"),
    key_file=Path("/run/posttrain/key"),
    dtype="float32",
    max_rank=64,
    max_loaded_adapters=8,
    max_cached_adapters=32,
)


def options(settings: EngineSettings) -> dict[str, str | None]:
    """A command line as a dictionary."""
    found: dict[str, str | None] = {}
    line = [*engine.arguments(settings), "--"]
    for word, after in itertools.pairwise(line):
        if word.startswith("--"):
            found[word] = None if after.startswith("--") else after
    return found


def test_the_command_line_of_an_engine_on_the_cpu():
    assert options(SETTINGS) == {
        "--model": "/models/tiny",
        "--served-model-name": "base",
        "--dtype": "float32",
        "--host": "0.0.0.0",
        "--port": "8000",
        "--middleware": "posttrain_server.gateway.middleware.EngineGateway",
        "--enable-lora": None,
        "--max-lora-rank": "64",
        "--max-loras": "8",
        "--max-cpu-loras": "33",
        "--trust-request-chat-template": None,
        "--disable-fastapi-docs": None,
        "--disable-access-log-for-endpoints": "/health,/metrics,/v1/models,/posttrain/state,/posttrain/metrics",
        "--enforce-eager": None,
        "--worker-cls": "posttrain_server.cpu_worker.Worker",
    }


@pytest.mark.parametrize(
    ("changes", "more", "less"),
    [
        pytest.param({"num_gpus": 1}, {}, {"--enforce-eager", "--worker-cls"}, id="one GPU"),
        pytest.param(
            {"num_gpus": 2}, {"--tensor-parallel-size": "2"}, {"--enforce-eager", "--worker-cls"}, id="two GPUs"
        ),
        pytest.param({"max_model_length": 512}, {"--max-model-len": "512"}, set(), id="a length"),
        pytest.param({"chat_template": Path("/t.jinja")}, {"--chat-template": "/t.jinja"}, set(), id="a template"),
    ],
)
def test_what_else_is_said(changes: dict[str, Any], more: dict[str, str], less: set[str]):
    before, after = options(SETTINGS), options(EngineSettings(**{**SETTINGS.__dict__, **changes}))
    assert after == {name: value for name, value in (before | more).items() if name not in less}


def test_a_reward_model_gives_raw_scores_and_takes_no_adapters():
    found = options(EngineSettings(**{**SETTINGS.__dict__, "runner": "pooling"}))
    scores = {"--runner": "pooling", "--pooler-config": '{"use_activation": false}'}
    without = {"--enable-lora", "--max-lora-rank", "--max-loras", "--max-cpu-loras"}
    assert found == {name: value for name, value in (options(SETTINGS) | scores).items() if name not in without}


def test_a_pod_may_change_defaults_but_open_no_door():
    pod = {"VLLM_CPU_KVCACHE_SPACE": "8", "VLLM_SERVER_DEV_MODE": "1", "HOME": "/root", "PATH": "/bin"}
    found = engine.environment(SETTINGS, pod)
    assert {name: found[name] for name in [*pod, "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "TORCHDYNAMO_DISABLE"]} == {
        "VLLM_CPU_KVCACHE_SPACE": "8",
        "VLLM_SERVER_DEV_MODE": "0",
        "HOME": "/tmp",
        "PATH": "/bin",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }


def test_every_folder_that_the_engine_writes_to_is_in_tmp():
    found = engine.environment(SETTINGS, {})
    folders = [value for name, value in found.items() if value.startswith("/") and name != "POSTTRAIN_KEY_FILE"]
    assert all(Path(folder).is_relative_to("/tmp") for folder in folders)


@pytest.mark.parametrize("version", ["0.31.4", "0.24.0", "0.9.2+cpu"])
def test_an_engine_that_can_mix_adapters_is_refused(version: str):
    with pytest.raises(ValueError, match="vllm#47724"):
        engine.check_version(version)


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.40.1rc1", "1.0"])
def test_a_newer_engine_is_taken(version: str):
    engine.check_version(version)


def tensors(folder: Path, *kinds: str) -> None:
    header = json.dumps({str(index): {"dtype": kind} for index, kind in enumerate(kinds)}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    ("config", "kinds", "dtype"),
    [
        pytest.param({"dtype": "bfloat16"}, ["F32"], "bfloat16", id="said"),
        pytest.param({"torch_dtype": "float16"}, ["F32"], "float16", id="said in the older way"),
        pytest.param({}, ["I64", "BF16"], "bfloat16", id="not said: the first floating-point tensor's"),
        pytest.param({"dtype": "auto"}, ["F32"], "float32", id="said, but nothing that we serve"),
    ],
)
def test_the_checkpoints_own_precision(tmp_path: Path, config: dict[str, str], kinds: list[str], dtype: str):
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors(tmp_path, *kinds)
    assert engine.resolve_dtype("auto", tmp_path) == dtype
    assert engine.resolve_dtype("float16", tmp_path) == "float16", "what is asked for counts"


def test_a_checkpoint_without_a_precision_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    tensors(tmp_path, "I64")
    with pytest.raises(ValueError, match=r"say engine\.dtype"):
        checkpoint.dtype(tmp_path)


def test_a_key_is_new_each_time_and_no_other_matches(tmp_path: Path):
    path = tmp_path / "key"
    keys = set()
    for _ in range(2):
        key.write(path)
        keys.add(key.read(path))
    assert (len(keys), path.stat().st_mode & 0o777) == (2, 0o640)
    one, other = keys
    assert key.matches(one, one)
    assert not key.matches(one, other)
    assert not key.matches("", one)


def test_a_file_that_is_no_key_is_refused(tmp_path: Path):
    (tmp_path / "key").write_bytes(b"")
    with pytest.raises(ValueError, match="0 bytes are no key"):
        key.read(tmp_path / "key")
