"""grpo on both sides: the same prompts, group size, length of answers, loss and reward.

The base is random and never ends an answer by itself, so that all answers are as long as they may be.
"""

from pathlib import Path

from bench.trainer import pattern, sides
from bench.trainer.material import STEPS, Material
from bench.trainer.sides import Measured

BATCH_SIZE, GROUP_SIZE, ANSWER_TOKENS = 32, 8, 32
"""Answers in a step, answers to a prompt, tokens of an answer."""


def ours(material: Material, scratch: Path) -> Measured:
    """The trainer, with the watch over its health that it always has."""
    spec = {
        "method": "grpo",
        "baseModel": {"uri": f"file://{material.base}", "tuned": True},
        "environment": {
            "dataset": {"uri": f"file://{material.prompts}"},
            "rewards": [{"builtin": "regex", "pattern": pattern.PATTERN}],
        },
        "tuning": sides.LORA,
        # TRL's command line punishes no length.
        "grpo": {"groupSize": GROUP_SIZE, "maxCompletionTokens": ANSWER_TOKENS, "overlongBufferTokens": 0},
        "hyperparameters": {
            **sides.HYPERPARAMETERS,
            "maxSteps": STEPS,
            "effectiveBatchSize": BATCH_SIZE,
            "gradientCheckpointing": False,
        },
        "evaluation": {"metrics": ["reward"]},
    }
    return sides.ours(spec, scratch)


def trl(material: Material, scratch: Path) -> Measured:
    """`trl grpo`."""
    options = {
        "model_name_or_path": material.base,
        "dataset_name": material.prompts.parent,
        "reward_funcs": f"{pattern.__name__}.score",
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH_SIZE,
        "num_generations": GROUP_SIZE,
        "max_completion_length": ANSWER_TOKENS,
        "loss_type": "dapo",
        "epsilon_high": 0.28,
        "gradient_checkpointing": False,
    }
    return sides.trl("grpo", options, scratch)
