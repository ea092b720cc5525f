"""The methods, and the block of settings that each of them has."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain_api.model import Check, Model, exactly_one
from posttrain_api.uri import ReadableUri
from posttrain_api.v1alpha1.references import CheckpointReference

Method = Literal["sft", "dpo", "simpo", "orpo", "kto", "reward", "distill", "bestOf", "merge"]
TRAINING = frozenset({"sft", "dpo", "simpo", "orpo", "kto", "reward", "distill"})
"""Methods that move weights in steps."""
PAIRS = frozenset({"dpo", "simpo", "orpo", "reward"})
"""Methods that learn from a chosen and a rejected answer."""
TUNED_BASE = frozenset({"dpo", "simpo", "kto"})
"""Methods that need a base which follows instructions already; orpo and sft start from one that does not."""
SPLIT_STEPS = frozenset({"sft", "dpo", "reward"})
"""Methods whose steps go through the model in parts of similar lengths."""

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]

WHOLE_STEP_LOSSES = frozenset({"aot", "aot_unpaired"})
"""They sort the rows of a step, which cannot go through the model in parts then."""


class Sft(Model):
    """Supervised fine-tuning."""

    completion_only: bool = False
    """Count only the last answer of a conversation; false: every turn of the assistant. A row with `unmask: true`
    counts everything but the system message."""


class Dpo(Model):
    """Direct preference optimization."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.lossWeights) || size(self.lossWeights) == size(self.loss)",
            lambda dpo: dpo.loss_weights is None or len(dpo.loss_weights) == len(dpo.loss),
            "give one of dpo.lossWeights for each of dpo.loss",
        ),
    )

    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How closely the model stays to the reference: higher is closer."""
    loss: Annotated[list[DpoLoss], Field(min_length=1, max_length=4)] = ["sigmoid"]
    """TRL's loss, or several that are added, such as sigmoid and sft."""
    loss_weights: Annotated[list[Annotated[float, Field(ge=0, le=1000)]], Field(min_length=1, max_length=4)] | None = (
        None
    )
    """Weight of each loss; left out: 1."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.499)] = 0.0
    """Share of pairs that are taken to be swapped, for the losses robust and exo_pair."""


class SimPo(Model):
    """Simple preference optimization: no reference, the reward is the mean log probability."""

    beta: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Scale of the reward."""
    gamma: Annotated[float, Field(ge=0, le=100)] = 1.0
    """By how much the chosen answer's reward should exceed the rejected one's."""


class Orpo(Model):
    """Odds ratio preference optimization: fine-tuning and preference in one loss, from an untuned base."""

    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Weight of the odds ratio: the paper's lambda."""


class Kto(Model):
    """Kahneman-Tversky optimization: each answer is desirable or not, on its own."""

    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How closely the model stays to the reference: higher is closer."""
    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    """TRL's loss."""
    desirable_weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Weight of desirable rows; left out: set from the balance of the labels, so that both classes count alike."""
    undesirable_weight: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Weight of undesirable rows; left out: likewise."""


class RewardTraining(Model):
    """A reward model: a score for an answer, from pairs."""

    center_rewards_coefficient: Annotated[float, Field(gt=0, le=100)] | None = None
    """Weight of an extra loss that keeps the scores around 0; left out: none."""


class Teacher(Model):
    """The model that is imitated."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("uri", "fromRun"),)

    uri: ReadableUri | None = None
    """Folder of a transformers checkpoint with the base model's vocabulary."""
    from_run: CheckpointReference | None = None
    """The accepted result of another run."""


class Distill(Model):
    """On-policy distillation: the model answers, and a teacher says of each token how likely it would have been."""

    teacher: Teacher
    """The model that is imitated."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=65536)] = 256
    """Longest answer that is generated, in tokens."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Temperature of the answers."""
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Divergence from the teacher: 0 is the forward, 1 the reverse KL, between them is generalized Jensen-Shannon."""


class BestOf(Model):
    """Rejection sampling: several answers to each prompt are scored, and the best are kept as a dataset for sft."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each prompt."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Temperature of the answers."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=65536)] = 256
    """Longest answer, in tokens."""
    min_score: Annotated[float, Field(ge=-1_000_000, le=1_000_000)] | None = None
    """A best answer that scores less is not kept; left out: one answer of each prompt is kept."""


class MergedRun(Model):
    """One adapter of a merge."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """A TrainingRun of this namespace whose accepted adapter has the same base."""
    weight: Annotated[float, Field(ge=-100, le=100)] = 1.0
    """Weight of its change."""


class Merge(Model):
    """Adapters of one base combined into one, without training."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.combination == 'weightedSum' || has(self.rank)",
            lambda merge: merge.combination == "weightedSum" or merge.rank is not None,
            "merge.combination ties, dareTies and dareLinear end in a decomposition: give merge.rank",
        ),
    )

    runs: Annotated[list[MergedRun], Field(min_length=2, max_length=16)]
    """The adapters."""
    combination: Literal["weightedSum", "ties", "dareTies", "dareLinear"] = "weightedSum"
    """weightedSum: the sum of weight * change. ties and dare: of the largest or of random parts of each change."""
    rank: Annotated[int, Field(ge=1, le=512)] | None = None
    """Rank of the result, by singular value decomposition; left out: the exact sum, with the ranks added."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of each change that ties and dare keep."""
