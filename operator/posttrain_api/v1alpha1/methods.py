"""The methods, and the block of settings that each of them has."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain_api.model import Check, Model, exactly_one
from posttrain_api.uri import ReadableUri
from posttrain_api.v1alpha1.references import CheckpointReference

Method = Literal["sft", "dpo", "simpo", "orpo", "kto", "reward", "distill", "grpo", "rloo", "ppo", "bestOf", "merge"]
TRAINING = frozenset({"sft", "dpo", "simpo", "orpo", "kto", "reward", "distill", "grpo", "rloo", "ppo"})
"""Methods that move weights in steps."""
PAIRS = frozenset({"dpo", "simpo", "orpo", "reward"})
"""Methods that learn from a chosen and a rejected answer."""
RL = frozenset({"grpo", "rloo", "ppo"})
"""Methods that learn from the scores of a model's own answers."""
TUNED_BASE = frozenset({"dpo", "simpo", "kto", *RL})
"""Methods that need a base which follows instructions already; orpo and sft start from one that does not."""
SPLIT_STEPS = frozenset({"sft", "dpo", "reward", "ppo"})
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


GrpoLoss = Literal["grpo", "dapo", "dr_grpo", "bnpo", "gspo", "cispo", "sapo"]


class Rollout(Model):
    """How the model answers while it learns."""

    mode: Literal["transformers", "colocate", "server"] | None = None
    """transformers: with the weights that are trained. colocate: vLLM on the trainer's GPU. server: vLLM in a container
    of its own beside the trainer, which gets the adapter of each step. Left out: colocate where there are a GPU and
    vLLM, else transformers."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a GPU's memory that vLLM takes, with colocate and server."""
    server_gpus: Annotated[int, Field(ge=0, le=16)] = 1
    """With server: GPUs of that container; 0: it answers on the CPU."""


class Curriculum(Model):
    """What happens to prompts that teach nothing."""

    action: Literal["Drop", "DownWeight"] = "Drop"
    """Drop: a prompt whose answers were all right, or all wrong, is not asked again. DownWeight: it is asked more
    rarely."""
    after: Annotated[int, Field(ge=1, le=1000)] = 2
    """How often in succession that must have been so."""


class _Answering(Model):
    """What all methods have in common that learn from the scores of their own answers."""

    max_completion_tokens: Annotated[int, Field(ge=1, le=65536)] = 512
    """Longest answer, in tokens."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Temperature of the answers."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """By how much the probability of a token may change before it counts no more."""
    num_iterations: Annotated[int, Field(ge=1, le=64)] = 1
    """How often the same answers are learned from."""
    rollout: Rollout = Rollout()
    """How the model answers while it learns."""
    curriculum: Curriculum | None = None
    """What happens to prompts that are always or never solved; left out: nothing."""


class Grpo(_Answering):
    """Group relative policy optimization: an answer is good as far as it is better than the others to its prompt."""

    group_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each prompt."""
    loss: GrpoLoss = "dapo"
    """Which of its variants, by the name in its paper: each sets TRL's loss_type, importance sampling level and scaling
    of rewards."""
    beta: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Weight of the divergence from the start: higher stays closer."""
    epsilon_high: Annotated[float, Field(gt=0, le=100)] | None = None
    """Upper bound, where it is another than epsilon; left out: 0.28 for dapo, 5.0 for cispo, else epsilon."""
    steps_per_generation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Optimizer steps that the answers of one generation are divided into."""
    overlong_buffer_tokens: Annotated[int, Field(ge=0, le=65536)] | None = None
    """In so many tokens before maxCompletionTokens an answer's score falls by up to 1; 0: it does not. Left out: a
    fifth of maxCompletionTokens for dapo, else 0."""
    dynamic_sampling_rounds: Annotated[int, Field(ge=0, le=64)] = 0
    """Groups whose answers all score the same teach nothing: other prompts are asked in their place, so many times at
    most for each generation; 0: never."""


class Rloo(_Answering):
    """REINFORCE leave one out: an answer is good as far as it is better than the mean of the others to its prompt."""

    group_size: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each prompt."""
    beta: Annotated[float, Field(ge=0, le=100)] = 0.05
    """Weight of the divergence from the start, a part of the score: higher stays closer."""
    normalize_advantages: bool = False
    """Scale the advantages of a batch to mean 0 and deviation 1."""


class Ppo(_Answering):
    """Proximal policy optimization: a value model says how good an answer may become, token by token."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.klTarget) || self.beta > 0.0",
            lambda ppo: ppo.kl_target is None or ppo.beta > 0,
            "ppo.klTarget changes ppo.beta, which is 0: make it larger, or remove klTarget",
        ),
    )

    beta: Annotated[float, Field(ge=0, le=100)] = 0.05
    """Weight of the divergence from the start, taken off the score of each token: higher stays closer."""
    kl_target: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Change beta so that the divergence of an answer, in nats, stays about here; left out: beta stays."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount of what comes a token later."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Generalized advantage estimation: 0 trusts the value model, 1 the score."""
    value_coefficient: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Weight of the value model's loss."""
    value_epsilon: Annotated[float, Field(gt=0, le=100)] = 0.2
    """By how much a value may change before it counts no more."""
    mini_batches: Annotated[int, Field(ge=1, le=1024)] = 1
    """Optimizer steps that the answers of one generation are divided into: as many answers for each of them as
    effectiveBatchSize says, one to a prompt."""


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
