"""What a GPU does in a step, and holds while it trains: on random models of 0.5 B shape, with the hardware's name."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of Qwen2.5-0.5B's shape, in bfloat16."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("large")
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=256,
        pad_token_id=256,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    builders.tokenizer(folder)
    return folder


def written(name: str, found: Mapping[str, Any]) -> None:
    """Write a measurement down with the hardware's name: printed, and below the folder that $OUT names."""
    told = {"hardware": torch.cuda.get_device_name(), **found}
    print(json.dumps(told, indent=1))
    if folder := os.environ.get("OUT"):
        (Path(folder) / f"{name}.json").write_text(json.dumps(told, indent=1))


def trained(large: Path, tmp_path: Path, **spec: Any) -> Progress:
    """The progress of a run of some steps on the large model."""
    rows = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(256))
    given = spec.pop("environment", {})
    environment = {"dataset": {"uri": f"file://{rows}"}, "chatTemplate": {"inline": builders.CHATML}, **given}
    progress = Progress("gpu")
    config = builders.run(large, rows, environment=environment, **spec)
    training.train(config, Places(claims=tmp_path / "claims"), progress, Stop())
    return progress


def test_where_the_time_of_a_grpo_step_goes(large: Path, tmp_path: Path) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        progress = trained(
            large,
            tmp_path,
            method="grpo",
            allowUntunedBase=True,
            environment={"rewards": [{"builtin": "length", "maxCharacters": 64}], "allowNoSignal": True},
            grpo={"groupSize": 8, "maxCompletionTokens": 128, "rollout": {"mode": "transformers"}},
            hyperparameters={"maxSteps": 3, "effectiveBatchSize": 64, "warmupSteps": 0, "maxLength": 256},
        )
    last = progress.history[-1]
    kernels = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)[:12]
    written(
        "grpo-step",
        {
            "rolloutSeconds": last["rolloutSeconds"],
            "trainingSeconds": last["trainingSeconds"],
            "meanTokens": last["meanTokens"],
            "samplingMismatch": last["samplingMismatch"],
            "peakGib": torch.cuda.max_memory_allocated() / 2**30,
            "kernels": {event.key: round(event.device_time_total / 1e6, 3) for event in kernels},
        },
    )
    assert last["rolloutSeconds"] > 0
    assert last["trainingSeconds"] > 0
    assert last["samplingMismatch"] < 0.2, "what answers is what is trained, up to bfloat16"


def test_qlora_needs_less_memory_than_lora(large: Path, tmp_path: Path) -> None:
    peaks = {}
    for quantization in ("none", "nf4"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        lora = {"lora": {"rank": 16, "quantization": quantization}}
        numbers = {"maxSteps": 3, "effectiveBatchSize": 4, "warmupSteps": 0, "maxLength": 128, "learningRate": 1e-3}
        trained(large, tmp_path / quantization, tuning=lora, hyperparameters=numbers)
        peaks[quantization] = torch.cuda.max_memory_allocated() / 2**30
    written("qlora-memory", {"peakGib": peaks})
    assert peaks["nf4"] < peaks["none"]
