"""Builders for the trainer's tests: a tiny base, its tokenizer, datasets and run.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from posttrain_api.artifact import Manifest
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import TrainingRunSpec

if TYPE_CHECKING:
    from posttrain_trainer.job import Job

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RL_LESSON: dict[str, Any] = {
    "environment": {"rewards": [{"builtin": "regex", "pattern": "[a-z].*"}]},
    "tuning": {"full": {}},
    "hyperparameters": {"maxSteps": 15, "effectiveBatchSize": 64, "learningRate": 0.02, "gradientCheckpointing": False},
    "evaluation": {"metrics": ["reward"], "maxCompletionTokens": 8},
}
"""To begin with a small letter, which the random base does in one of ten answers: learned in seconds."""
RL_METRICS = frozenset(
    {
        "loss",
        "reward",
        "rewardStd",
        "entropy",
        "kl",
        "noSpreadShare",
        "clippedShare",
        "meanTokens",
        "maxTokens",
        "truncatedShare",
        "samplingMismatch",
        "rolloutSeconds",
        "trainingSeconds",
        "learningRate",
        "gradNorm",
    }
)
"""What every step tells that learns from rewards."""
UID = "7c9d6c1e-0000-4000-8000-000000000001"
RL_SHORT: dict[str, Any] = {"rewards": [{"builtin": "length", "maxCharacters": 4}], "allowNoSignal": True}
"""An environment in which answers score differently from the first one on."""


def tokenizer(folder: Path) -> None:
    """Save a tokenizer of single bytes with ChatML's special tokens and no chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)


def base(folder: Path) -> Path:
    """Save a random Qwen2 of some ten thousand parameters with its tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=256,
        pad_token_id=256,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


def exchanges(count: int) -> list[dict[str, Any]]:
    """Rows of one question and one answer each."""
    return [{"prompt": f"Double {number}", "completion": str(2 * number)} for number in range(count)]


def json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(base: Path, dataset: Path, **spec: Any) -> RunConfig:
    """A run of three steps on the claim `out`; keywords replace parts of its spec."""
    wanted: dict[str, Any] = {
        "method": "sft",
        "baseModel": {"uri": f"file://{base}"},
        "environment": {"dataset": {"uri": f"file://{dataset}"}, "chatTemplate": {"inline": CHATML}},
        "tuning": {"lora": {"rank": 4, "alpha": 8}},
        "hyperparameters": {"maxSteps": 3, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128},
        "output": {"uri": "pvc://out"},
    }
    recipe = TrainingRunSpec.model_validate(wanted | spec).recipe()
    return RunConfig(name="double", namespace="team", uid=UID, recipe=recipe)


def rl_run(base: Path, dataset: Path, *, method: str = "grpo", **spec: Any) -> RunConfig:
    """A run of three steps that learns from the numbers in its answers; keywords replace parts of its spec."""
    environment = {
        "dataset": {"uri": f"file://{dataset}"},
        "chatTemplate": {"inline": CHATML},
        "rewards": [{"builtin": "numeric"}],
        "allowNoSignal": True,
    } | spec.pop("environment", {})
    wanted = {"environment": environment, "allowUntunedBase": True, "evaluation": {"maxCompletionTokens": 8}} | spec
    chosen = wanted.get("hyperparameters", {})
    numbers = {"effectiveBatchSize": 8, "learningRate": 0.01, "maxLength": 128}
    wanted["hyperparameters"] = numbers | ({} if "epochs" in chosen else {"maxSteps": 3}) | chosen
    block = {"maxCompletionTokens": 8, **({} if method == "ppo" else {"groupSize": 4})}
    wanted[method] = block | wanted.get(method, {})
    return run(base, dataset, method=method, **wanted)


def rl_job(base: Path, folder: Path, *, rows: Sequence[Mapping[str, Any]], **spec: Any) -> "Job":
    """A run as of rl_run on these rows, prepared; its files lie in the folder."""
    from posttrain_trainer import model, task
    from posttrain_trainer.job import Job
    from posttrain_trainer.places import Places
    from posttrain_trainer.progress import Progress
    from posttrain_trainer.refusal import Stop

    config = rl_run(base, json_lines(folder / "rows.jsonl", rows), **spec)
    places, stop = Places(claims=folder), Stop()
    precision = model.precision(config.recipe.hyperparameters.precision)
    return Job(config, places, task.prepare(config, places, stop), precision, Progress("double"), stop)


def check_probes(loaded: Any, manifest: Manifest) -> None:
    """A model that was loaded by others' code gives the log probabilities that an artifact's manifest names."""
    import torch

    for found in manifest.probes:
        ids = torch.tensor([found.token_ids])
        with torch.no_grad():
            scores = loaded(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        assert scores.tolist() == pytest.approx(found.result, abs=2e-4)
        assert max(abs(base - result) for base, result in zip(found.base, found.result, strict=True)) > 1e-3
