"""Which weights of the base model move."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain_api.model import Check, Model, at_most_one

Initialization = Literal["default", "gaussian", "olora", "pissa", "eva"]
MOVES_THE_BASE = frozenset({"olora", "pissa"})
"""Initializations that take their matrices out of the base: the adapter switched off is not the base any more."""


class Lora(Model):
    """Low-rank adaptation: small matrices beside frozen weights."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.quantization == 'none' || !self.dora",
            lambda lora: lora.quantization == "none" or not lora.dora,
            "lora.dora is published merged into its base, which a quantized base cannot: remove one",
        ),
        Check(
            "self.quantization == 'none' || self.init in ['default', 'gaussian']",
            lambda lora: lora.quantization == "none" or lora.init in ("default", "gaussian"),
            "lora.init olora, pissa and eva read the base's own weights: write default or gaussian with quantization",
        ),
        Check(
            "!self.dora || !(self.init in ['olora', 'pissa', 'eva'])",
            lambda lora: not lora.dora or lora.init in ("default", "gaussian"),
            "lora.dora has its own start: write lora.init default or gaussian with it",
        ),
    )

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Rank of the matrices."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 32.0
    """Scale: the update counts alpha / rank, or alpha / sqrt(rank) where it is rank-stabilized."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped while it trains."""
    target_modules: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=64)] = []
    """Names of the linear layers to adapt, such as q_proj, or one preset: attention or mlp; empty: all linear layers
    but the output head."""
    init: Initialization = "default"
    """How the matrices begin. default and gaussian: random, without effect. olora and pissa: from the base's weights,
    published as plain LoRA of twice the rank; for sft, reward and distill. eva: from the data's activations."""
    dora: bool = False
    """Learn the length of each weight column apart from its direction (DoRA). The result is published merged: a whole
    model, served as a base."""
    rank_stabilized: bool = False
    """Divide alpha by the root of the rank, for high ranks (rsLoRA)."""
    quantization: Literal["none", "nf4"] = "none"
    """nf4: keep the base in 4 bits while the adapter trains (QLoRA). It needs a GPU."""


class Full(Model):
    """Every weight moves. The result is a whole model, served as a base."""


class Osft(Model):
    """Orthogonal subspace fine-tuning: only the least important directions of each linear layer move, so that less is
    forgotten. The result is a whole model, served as a base."""

    unfreeze_rank_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the directions that move, from those with the smallest singular values."""


class PromptTuning(Model):
    """Vectors before each prompt move, and no weight. It cannot be served on vLLM."""

    virtual_tokens: Annotated[int, Field(ge=1, le=1024)] = 20
    """Number of vectors."""
    init_text: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """They begin as the embeddings of this text; left out: of random tokens."""


class Tuning(Model):
    """Which weights move."""

    checks: ClassVar[tuple[Check, ...]] = (at_most_one("lora", "full", "osft", "promptTuning"),)

    lora: Lora | None = None
    """Low-rank adaptation; with its defaults where the method trains and nothing is said."""
    full: Full | None = None
    """Every weight."""
    osft: Osft | None = None
    """The least important directions of each linear layer."""
    prompt_tuning: PromptTuning | None = None
    """Vectors before each prompt."""
