"""Numbers of the training that all methods share, under TRL's names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain_api.model import Check, Model
from posttrain_api.v1alpha1.methods import RL


class Hyperparameters(Model):
    """Numbers of the training, under TRL's names."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!(has(self.epochs) && has(self.maxSteps))",
            lambda given: given.epochs is None or given.max_steps is None,
            "give epochs or maxSteps, not both: remove one",
        ),
        Check(
            "!has(self.maxTokensPerGpu) || self.maxTokensPerGpu >= self.maxLength",
            lambda given: given.max_tokens_per_gpu is None or given.max_tokens_per_gpu >= given.max_length,
            "maxTokensPerGpu must hold one row: make it at least maxLength",
        ),
    )

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Passes over the data; where maxSteps is not given either: 3 for sft, 1 for the other methods."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Highest learning rate; left out, it depends on method and tuning: 2e-4 for sft with LoRA, 5e-6 for dpo with
    LoRA."""
    effective_batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Rows in each optimizer step, over all GPUs; for grpo, rloo and ppo answers. Left out: 16, for these 64."""
    max_tokens_per_gpu: Annotated[int, Field(ge=8, le=16_777_216)] | None = None
    """Tokens that go through the model at once, padding included: rows of similar length, as many as stay below it. It
    changes memory and speed, never the step: that is always effectiveBatchSize rows, and its loss a mean over all of
    them. Left out: 16384. For sft, dpo, reward and ppo."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 2048
    """Longest conversation, in tokens; a longer row is refused by preflight, never cut."""
    packing: bool = False
    """Put the rows of a step behind each other, up to maxTokensPerGpu tokens, instead of padding them to one length. It
    changes speed, never the step. For sft, on a GPU, with the package flash-attn in the trainer's image."""
    warmup_steps: Annotated[float, Field(ge=0, le=1_000_000)] = 0.03
    """Steps until the learning rate is at its highest; below 1: share of all steps."""
    scheduler: Literal["linear", "cosine", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Gradients longer than this are scaled down to it."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass: less memory, about a third more time."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the computation; auto: bf16 on a GPU, fp32 on a CPU."""
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 42
    """Seed of everything random."""


class ResolvedHyperparameters(Hyperparameters):
    """Hyperparameters with nothing left to decide."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]
    effective_batch_size: Annotated[int, Field(ge=1, le=65536)]


def learning_rate(method: str, *, tuning: str) -> float:
    """The usual learning rate of a method with lora, full, osft or promptTuning."""
    if tuning == "promptTuning":
        return 1e-2
    adapter, whole = _LEARNING_RATES[method]
    return adapter if tuning == "lora" else whole


_LEARNING_RATES = {
    "sft": (2e-4, 2e-5),
    "dpo": (5e-6, 5e-7),
    "simpo": (5e-6, 5e-7),
    "orpo": (5e-6, 5e-7),
    "kto": (5e-6, 5e-7),
    "reward": (1e-4, 1e-5),
    "distill": (1e-4, 1e-5),
    "grpo": (1e-5, 1e-6),
    "rloo": (1e-5, 1e-6),
    "ppo": (1e-5, 1e-6),
}
"""Method -> with LoRA, with whole weights."""


def epochs(method: str) -> float:
    """The usual number of passes over the data."""
    return 3.0 if method == "sft" else 1.0


def effective_batch_size(method: str) -> int:
    """The usual number of rows, or of a model's own answers, in a step."""
    return 64 if method in RL else 16
