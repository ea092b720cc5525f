"""How a result is judged, and what follows where it is not good enough."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from posttrain_api.meta import LocalReference
from posttrain_api.model import Check, Model, exactly_one, patch_of
from posttrain_api.uri import ReadableUri
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_api.v1alpha1.hyperparameters import Hyperparameters
from posttrain_api.v1alpha1.methods import RL, Dpo, Grpo, Kto, Orpo, Ppo, RewardTraining, Rloo, SimPo

OWN_METRICS = (
    "loss",
    "tokenAccuracy",
    "exactMatch",
    "preferenceAccuracy",
    "divergence",
    "reward",
    "success",
    "stopRate",
    "repetition",
    "meanTokens",
)
LM_EVAL = "lm-eval:"
RETENTION = "retention."
"""What the name of a metric on the retention dataset begins with."""
GENERATED = frozenset({"exactMatch", "reward", "success", "stopRate", "repetition", "meanTokens"})
"""Metrics for which the model answers the held-out rows."""
RETAINED = frozenset({"loss", "tokenAccuracy", "exactMatch"})
"""Metrics that are measured on the retention dataset too."""
LOWER_IS_BETTER = frozenset({"loss", "divergence", "repetition"})
WITHOUT_DIRECTION = frozenset({"meanTokens"})
_NAME = f"({'|'.join(OWN_METRICS)}|{LM_EVAL}[A-Za-z0-9_.-]{{1,64}})"

Metric = Annotated[str, Field(max_length=96, pattern=f"^{_NAME}$")]
JudgedMetric = Annotated[str, Field(max_length=96, pattern=f"^(retention[.])?{_NAME}$")]


def bare(metric: str) -> str:
    """The metric without the word that says on which dataset it was measured."""
    return metric.removeprefix(RETENTION)


class Gate(Model):
    """What a result must reach to be accepted."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("min", "max", "minGain", "maxRegression"),)

    metric: JudgedMetric
    """One of evaluation.metrics; retention.<metric> for the same on the retention dataset."""
    min: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """The result reaches at least this."""
    max: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """The result stays at or below this."""
    min_gain: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """The result is better than the start by at least this; for loss, divergence and repetition lower is better."""
    max_regression: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """The result is worse than the start by at most this."""


class Retention(Model):
    """What must not be forgotten."""

    dataset: Dataset
    """Rows of the form that sft reads; the metrics loss, tokenAccuracy and exactMatch among evaluation.metrics, or loss
    where there is none, are measured on them too, as retention.<metric>."""


class LmEval(Model):
    """Where lm-evaluation-harness finds the tasks of the metrics lm-eval:<task>. It fetches nothing."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("configMap", "uri"),)

    config_map: LocalReference | None = None
    """A ConfigMap with one key for each file: the tasks' YAML and their data."""
    uri: ReadableUri | None = None
    """A folder with the same."""
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Take so many documents of each task; left out: all."""


class Patch(Model):
    """What the next round does otherwise; each part is typed like what it patches."""

    hyperparameters: Annotated[dict[str, Any], patch_of(Hyperparameters)] = {}
    """Hyperparameters to replace."""
    dpo: Annotated[dict[str, Any], patch_of(Dpo)] | None = None
    """Settings of dpo to replace."""
    simpo: Annotated[dict[str, Any], patch_of(SimPo)] | None = None
    """Settings of simpo to replace."""
    orpo: Annotated[dict[str, Any], patch_of(Orpo)] | None = None
    """Settings of orpo to replace."""
    kto: Annotated[dict[str, Any], patch_of(Kto)] | None = None
    """Settings of kto to replace."""
    reward: Annotated[dict[str, Any], patch_of(RewardTraining)] | None = None
    """Settings of reward to replace."""
    grpo: Annotated[dict[str, Any], patch_of(Grpo)] | None = None
    """Settings of grpo to replace."""
    rloo: Annotated[dict[str, Any], patch_of(Rloo)] | None = None
    """Settings of rloo to replace."""
    ppo: Annotated[dict[str, Any], patch_of(Ppo)] | None = None
    """Settings of ppo to replace."""


class OnFailure(Model):
    """What follows where a gate fails."""

    action: Literal["Reject", "Retrain"] = "Reject"
    """Reject: the run has failed. Retrain: the next round starts, with the patched recipe."""
    max_attempts: Annotated[int, Field(ge=2, le=16)] = 2
    """Rounds in all with Retrain, the first included. Each round has the next seed."""
    patch: Patch = Patch()
    """What every round after the first does otherwise."""


class EarlyStopping(Model):
    """Measure while training, keep the best weights, and stop where nothing improves any more."""

    metric: Metric
    """One of evaluation.metrics, other than meanTokens and lm-eval:<task>."""
    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Measurements in a row without improvement after which training ends."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimizer steps between two measurements; left out: a tenth of all steps."""


class Evaluation(Model):
    """How the result is judged: the same measurement before and after training, on rows that are not trained on."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.metrics) || !has(self.gates) || self.gates.all(g, self.metrics.exists(m, g.metric == m || "
            "g.metric == 'retention.' + m) || g.metric == 'retention.loss')",
            lambda given: given.metrics is None or all(given.measures(gate.metric) for gate in given.gates),
            "a gate judges a metric that is not measured: add it to evaluation.metrics",
        ),
        Check(
            "has(self.retention) || !has(self.gates) || !self.gates.exists(g, g.metric.startsWith('retention.'))",
            lambda given: (
                given.retention is not None or not any(gate.metric.startswith(RETENTION) for gate in given.gates)
            ),
            "a gate on retention.<metric> needs evaluation.retention.dataset",
        ),
        Check(
            "has(self.lmEval) || !has(self.metrics) || !self.metrics.exists(m, m.startsWith('lm-eval:'))",
            lambda given: given.lm_eval is not None or not any(m.startswith(LM_EVAL) for m in given.metrics or ()),
            "a metric lm-eval:<task> needs evaluation.lmEval: the folder or ConfigMap with the task's files",
        ),
        Check(
            "!has(self.earlyStopping) || !has(self.metrics) || self.earlyStopping.metric in self.metrics",
            lambda given: (
                given.early_stopping is None or given.metrics is None or given.early_stopping.metric in given.metrics
            ),
            "earlyStopping.metric is not measured: add it to evaluation.metrics",
        ),
        Check(
            "!has(self.earlyStopping) || !(self.earlyStopping.metric == 'meanTokens' || "
            "self.earlyStopping.metric.startsWith('lm-eval:'))",
            lambda given: (
                given.early_stopping is None
                or not given.early_stopping.metric.startswith((LM_EVAL, *WITHOUT_DIRECTION))
            ),
            "earlyStopping.metric cannot be meanTokens, which is neither good nor bad, nor lm-eval:<task>, which takes "
            "too long: choose another",
        ),
    )

    dataset: Dataset | None = None
    """The held-out rows; left out: 5 % of the rows (1 to 500), chosen by the seed and taken out of training."""
    metrics: (
        Annotated[list[Metric], Field(min_length=1, max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})]
        | None
    ) = None
    """Left out, what the method is judged by: loss and tokenAccuracy for sft and merge, preferenceAccuracy for pairs,
    that and loss for kto, divergence for distill, reward for grpo, rloo, ppo and bestOf.
    loss: nats per trained token. tokenAccuracy: share of trained tokens that are the likeliest. exactMatch: share of
    rows whose last answer is generated to the letter (greedy). preferenceAccuracy: share of pairs whose chosen answer
    is likelier per token, or scores higher under a reward model; with kto's rows, of all pairs of a desirable and an
    undesirable row. divergence: nats per token from the teacher. reward: mean score of the generated answers by
    environment.rewards. success: mean score by those of role success. stopRate: share of answers that end by
    themselves. repetition: share of an answer's four-token sequences that occurred in it before. meanTokens: length of
    an answer. lm-eval:<task>: that task's first metric."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=65536)] = 256
    """Longest answer that is generated for a metric or a sample prompt, in tokens."""
    retention: Retention | None = None
    """What must not be forgotten."""
    lm_eval: LmEval | None = None
    """Where the tasks of the metrics lm-eval:<task> are."""
    gates: Annotated[list[Gate], Field(max_length=16)] = []
    """What the result must reach: else it is not accepted, and never served."""
    on_failure: OnFailure = OnFailure()
    """What follows where a gate fails."""
    sample_prompts: Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(max_length=16)] = []
    """Questions that base and result answer, for people to read in samples.jsonl and in the model card."""
    early_stopping: EarlyStopping | None = None
    """Measure while training and keep the best."""

    def measures(self, metric: str) -> bool:
        """Whether a gate's metric is among those that are measured."""
        return bare(metric) in (self.metrics or ()) or metric == f"{RETENTION}loss"


class ResolvedEvaluation(Evaluation):
    """Evaluation with nothing left to decide."""

    metrics: Annotated[list[Metric], Field(min_length=1, max_length=16)]


def default_metrics(method: str) -> list[str]:
    """What a method is judged by where nothing is said."""
    return {
        "kto": ["loss", "preferenceAccuracy"],
        "distill": ["divergence"],
        "bestOf": ["reward"],
        **{name: ["reward"] for name in RL},
        "sft": ["loss", "tokenAccuracy"],
        "merge": ["loss", "tokenAccuracy"],
    }.get(method, ["preferenceAccuracy"])


def possible_metrics(method: str) -> frozenset[str]:
    """Which of OWN_METRICS a method's result can be judged by; lm-eval where this holds exactMatch."""
    if method == "reward":
        return frozenset({"preferenceAccuracy"})
    if method == "bestOf":
        return frozenset({"reward"})
    answers = frozenset({"loss", "tokenAccuracy"}) | GENERATED
    extra = {"distill": "divergence"}.get(method, "preferenceAccuracy")
    return answers if method in ("sft", "merge", *RL) else answers | {extra}
