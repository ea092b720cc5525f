"""sft on both sides, on rows of one or of many lengths."""

from pathlib import Path

from bench.trainer import sides
from bench.trainer.material import MAX_LENGTH, Length, Material
from bench.trainer.sides import Measured


def ours(material: Material, rows: Length, scratch: Path) -> Measured:
    """The trainer, with our defaults."""
    spec = {
        "method": "sft",
        "baseModel": {"uri": f"file://{material.base}"},
        "environment": {"dataset": {"uri": f"file://{material.train(rows)}"}},
        "tuning": sides.LORA,
        "hyperparameters": {**sides.HYPERPARAMETERS, "epochs": 1},
        "evaluation": {"dataset": {"uri": f"file://{material.held_out(rows)}"}, "metrics": ["loss"]},
    }
    return sides.ours(spec, scratch)


def trl(material: Material, rows: Length, scratch: Path) -> Measured:
    """`trl sft`."""
    options = {
        "model_name_or_path": material.base,
        "dataset_name": material.train(rows).parent,
        "assistant_only_loss": True,
        "num_train_epochs": 1,
        "max_length": MAX_LENGTH,
        "gradient_checkpointing": True,
    }
    return sides.trl("sft", options, scratch)
