"""What must hold between the fields of a TrainingRun's spec: which settings a method can use."""

from typing import Any

from posttrain_api.model import Check
from posttrain_api.v1alpha1.evaluation import LM_EVAL, RETENTION, default_metrics, possible_metrics
from posttrain_api.v1alpha1.methods import RL, SPLIT_STEPS, TRAINING, TUNED_BASE, WHOLE_STEP_LOSSES
from posttrain_api.v1alpha1.round_checks import ROUND_CHECKS
from posttrain_api.v1alpha1.tuning import MOVES_THE_BASE

BLOCKS = ("sft", "dpo", "simpo", "orpo", "kto", "reward", "distill", "grpo", "rloo", "ppo", "bestOf", "merge")
"""Names of the methods' blocks in JSON: each is its method's own name."""
_BASE_MOVERS = ("sft", "reward", "distill")


def _listed(names: Any) -> str:
    return "[" + ", ".join(f"'{name}'" for name in sorted(names)) + "]"


def _block(spec: Any, name: str) -> Any:
    return getattr(spec, "best_of" if name == "bestOf" else name)


def _only_with_its_method(name: str) -> Check:
    return Check(
        f"!has(self.{name}) || self.method == '{name}'",
        lambda spec: _block(spec, name) is None or spec.method == name,
        f"{name} is the block of method {name}: remove it, or write method: {name}",
    )


def _needed(name: str, what: str) -> Check:
    return Check(
        f"self.method != '{name}' || has(self.{name})",
        lambda spec: spec.method != name or _block(spec, name) is not None,
        f"method {name} needs the block {name}: {what}",
    )


def _metrics(methods: tuple[str, ...]) -> Check:
    """These methods share their possible metrics."""
    possible = possible_metrics(methods[0])
    has_answers = "exactMatch" in possible
    lm_eval = " || m.startsWith('lm-eval:')" if has_answers else ""

    def holds(spec: Any) -> bool:
        metrics = spec.evaluation.metrics or ()
        return spec.method not in methods or all(
            metric in possible or (has_answers and metric.startswith(LM_EVAL)) for metric in metrics
        )

    names = ", ".join(sorted(possible)) + (", lm-eval:<task>" if has_answers else "")
    return Check(
        f"!(self.method in {_listed(methods)}) || !has(self.evaluation) || !has(self.evaluation.metrics) || "
        f"self.evaluation.metrics.all(m, m in {_listed(possible)}{lm_eval})",
        holds,
        f"evaluation.metrics: method {' and '.join(methods)} can be judged by {names}",
    )


def _judged(methods: tuple[str, ...]) -> Check:
    """These methods share what they are judged by where evaluation.metrics is left out."""
    default = default_metrics(methods[0])
    known = [*default, *(f"{RETENTION}{metric}" for metric in default), f"{RETENTION}loss"]

    def holds(spec: Any) -> bool:
        stopping = spec.evaluation.early_stopping
        asked = [*(gate.metric for gate in spec.evaluation.gates), *([stopping.metric] if stopping else [])]
        return spec.method not in methods or spec.evaluation.metrics is not None or set(asked) <= set(known)

    return Check(
        f"!(self.method in {_listed(methods)}) || !has(self.evaluation) || has(self.evaluation.metrics) || "
        f"((!has(self.evaluation.gates) || self.evaluation.gates.all(g, g.metric in {_listed(known)})) && "
        f"(!has(self.evaluation.earlyStopping) || self.evaluation.earlyStopping.metric in {_listed(known)}))",
        holds,
        f"evaluation.metrics left out means {' and '.join(default)} for {' and '.join(methods)}, and a gate or "
        "earlyStopping names another: write evaluation.metrics",
    )


def _has_lora(spec: Any, wanted: Any) -> bool:
    return spec.tuning.lora is not None and bool(wanted(spec.tuning.lora))


def _patches_its_method(name: str) -> Check:
    patch = "self.evaluation.onFailure.patch"
    return Check(
        f"self.method == '{name}' || !has(self.evaluation) || !has(self.evaluation.onFailure) || !has({patch}) || "
        f"!has({patch}.{name})",
        lambda spec: spec.method == name or getattr(spec.evaluation.on_failure.patch, name) is None,
        f"evaluation.onFailure.patch.{name} is for method {name}: remove it",
    )


_LORA = "has(self.tuning) && has(self.tuning.lora)"

SPEC_CHECKS = (
    *ROUND_CHECKS,
    *(_only_with_its_method(name) for name in BLOCKS),
    _needed("distill", "write distill.teacher.uri or .fromRun"),
    _needed("merge", "write merge.runs, the runs whose adapters are combined"),
    Check(
        "self.hyperparameters.precision != 'bf16' || self.resources.gpus > 0",
        lambda spec: spec.hyperparameters.precision != "bf16" or spec.resources.gpus > 0,
        "hyperparameters.precision bf16 needs a GPU: write auto or fp32, or resources.gpus: 1",
    ),
    Check(
        f"!({_LORA} && self.tuning.lora.quantization == 'nf4') || self.resources.gpus > 0",
        lambda spec: not _has_lora(spec, lambda lora: lora.quantization == "nf4") or spec.resources.gpus > 0,
        "tuning.lora.quantization nf4 needs a GPU: write none, or resources.gpus: 1",
    ),
    Check(
        f"!({_LORA} && self.tuning.lora.quantization == 'nf4') || self.method != 'reward'",
        lambda spec: not _has_lora(spec, lambda lora: lora.quantization == "nf4") or spec.method != "reward",
        "a reward model is published merged into its base, which a quantized base cannot be: remove quantization",
    ),
    Check(
        f"!({_LORA} && self.tuning.lora.init in {_listed(MOVES_THE_BASE)}) || self.method in {_listed(_BASE_MOVERS)}",
        lambda spec: not _has_lora(spec, lambda lora: lora.init in MOVES_THE_BASE) or spec.method in _BASE_MOVERS,
        "tuning.lora.init olora and pissa change the base, so it is no reference any more: write default, gaussian or "
        "eva, or use them with sft, reward or distill",
    ),
    Check(
        "!(has(self.tuning) && has(self.tuning.promptTuning)) || self.method == 'sft'",
        lambda spec: spec.tuning.prompt_tuning is None or spec.method == "sft",
        "tuning.promptTuning works with sft only: the other methods read log probabilities at places that it shifts",
    ),
    Check(
        f"self.method in {_listed(TRAINING)} || !has(self.tuning) || !(has(self.tuning.lora) || has(self.tuning.full) "
        "|| has(self.tuning.osft) || has(self.tuning.promptTuning))",
        lambda spec: spec.method in TRAINING or not spec.tuning.to_json(),
        "bestOf and merge train nothing: remove tuning",
    ),
    Check(
        "!self.hyperparameters.packing || self.method == 'sft'",
        lambda spec: not spec.hyperparameters.packing or spec.method == "sft",
        "hyperparameters.packing works with sft only: remove it",
    ),
    Check(
        "!self.hyperparameters.packing || (self.resources.gpus > 0 && self.hyperparameters.precision != 'fp32')",
        lambda spec: (
            not spec.hyperparameters.packing or (spec.resources.gpus > 0 and spec.hyperparameters.precision != "fp32")
        ),
        "hyperparameters.packing needs flash attention, which computes in bf16 on a GPU: remove it, or write "
        "resources.gpus: 1 and precision: auto",
    ),
    Check(
        "!self.hyperparameters.packing || !has(self.tuning) || !has(self.tuning.promptTuning)",
        lambda spec: not spec.hyperparameters.packing or spec.tuning.prompt_tuning is None,
        "tuning.promptTuning puts its tokens before each sequence, not before each row of it: remove "
        "hyperparameters.packing",
    ),
    Check(
        f"!has(self.hyperparameters.maxTokensPerGpu) || self.method in {_listed(SPLIT_STEPS)}",
        lambda spec: spec.hyperparameters.max_tokens_per_gpu is None or spec.method in SPLIT_STEPS,
        "hyperparameters.maxTokensPerGpu works with sft, dpo, reward and ppo: remove it",
    ),
    Check(
        "!has(self.hyperparameters.maxTokensPerGpu) || !has(self.dpo) || "
        f"!self.dpo.loss.exists(l, l in {_listed(WHOLE_STEP_LOSSES)})",
        lambda spec: (
            spec.hyperparameters.max_tokens_per_gpu is None
            or spec.dpo is None
            or WHOLE_STEP_LOSSES.isdisjoint(spec.dpo.loss)
        ),
        "dpo.loss aot and aot_unpaired sort the rows of a step, so it cannot be split: remove "
        "hyperparameters.maxTokensPerGpu",
    ),
    Check(
        f"!(self.method in {_listed(TUNED_BASE)}) || has(self.baseModel.fromRun) || self.baseModel.tuned || "
        "self.allowUntunedBase",
        lambda spec: (
            spec.method not in TUNED_BASE
            or spec.base_model.from_run is not None
            or spec.base_model.tuned
            or spec.allow_untuned_base
        ),
        "dpo, simpo, kto, grpo, rloo and ppo need a base that follows instructions: start from an sft run by "
        "baseModel.fromRun, or say baseModel.tuned: true, or allowUntunedBase: true",
    ),
    Check(
        "self.method != 'kto' || !has(self.hyperparameters.effectiveBatchSize) || "
        "self.hyperparameters.effectiveBatchSize >= 2",
        lambda spec: spec.method != "kto" or (spec.hyperparameters.effective_batch_size or 2) >= 2,
        "kto compares the rows of a batch: make hyperparameters.effectiveBatchSize at least 2",
    ),
    Check(
        "!has(self.environment.dataset.fromRun) || self.method == 'sft'",
        lambda spec: spec.environment.dataset.from_run is None or spec.method == "sft",
        "environment.dataset.fromRun holds answers that bestOf kept, which only sft learns from",
    ),
    Check(
        f"!(self.method in {_listed(RL)} || self.method == 'bestOf') || has(self.environment.dataset.package) || "
        "(has(self.environment.rewards) && self.environment.rewards.exists(r, r.role == 'reward'))",
        lambda spec: (
            spec.method not in {*RL, "bestOf"}
            or spec.environment.dataset.package is not None
            or any(reward.teaches for reward in spec.environment.rewards)
        ),
        "grpo, rloo, ppo and bestOf learn from scores: write environment.rewards with one of role reward",
    ),
    Check(
        "!(has(self.evaluation) && has(self.evaluation.metrics) && 'success' in self.evaluation.metrics) || "
        "(has(self.environment.rewards) && self.environment.rewards.exists(r, r.role == 'success'))",
        lambda spec: (
            "success" not in (spec.evaluation.metrics or ())
            or any(not reward.teaches for reward in spec.environment.rewards)
        ),
        "the metric success needs one of environment.rewards with role success",
    ),
    Check(
        "!has(self.environment.rewards) || has(self.environment.dataset.package) || "
        "!self.environment.rewards.exists(r, has(r.builtin) && r.builtin == 'verifier')",
        lambda spec: (
            spec.environment.dataset.package is not None
            or all(reward.builtin != "verifier" for reward in spec.environment.rewards)
        ),
        "builtin verifier is the scoring of environment.dataset.package: name a package, or another reward",
    ),
    Check(
        "!has(self.environment.tools) || self.method == 'grpo'",
        lambda spec: spec.environment.tools is None or spec.method == "grpo",
        "environment.tools works with grpo only: remove it",
    ),
    Check(
        f"!has(self.health) || self.method in {_listed(RL)}",
        lambda spec: spec.method in RL or spec.health is None,
        "health watches grpo, rloo and ppo: remove it",
    ),
    Check(
        "!(has(self.tuning) && (has(self.tuning.osft) || has(self.tuning.promptTuning))) || "
        f"!(self.method in {_listed(RL)})",
        lambda spec: spec.method not in RL or (spec.tuning.osft is None and spec.tuning.prompt_tuning is None),
        "grpo, rloo and ppo work with tuning.lora and tuning.full: write one of these",
    ),
    Check(
        "!(has(self.evaluation) && has(self.evaluation.metrics) && 'reward' in self.evaluation.metrics) || "
        "has(self.environment.dataset.package) || (has(self.environment.rewards) && "
        "self.environment.rewards.exists(r, r.role == 'reward'))",
        lambda spec: (
            "reward" not in (spec.evaluation.metrics or ())
            or spec.environment.dataset.package is not None
            or any(reward.teaches for reward in spec.environment.rewards)
        ),
        "the metric reward scores answers: write environment.rewards",
    ),
    Check(
        f"self.method in {_listed(TRAINING)} || !(has(self.checkpoints) || (has(self.evaluation) && "
        "has(self.evaluation.earlyStopping)))",
        lambda spec: spec.method in TRAINING or (spec.checkpoints is None and spec.evaluation.early_stopping is None),
        "bestOf and merge have no steps: remove checkpoints and evaluation.earlyStopping",
    ),
    Check(
        f"self.method in {_listed(TRAINING)} || !has(self.evaluation) || !has(self.evaluation.onFailure) || "
        "self.evaluation.onFailure.action == 'Reject'",
        lambda spec: spec.method in TRAINING or spec.evaluation.on_failure.action == "Reject",
        "bestOf and merge train nothing that could be trained again: remove evaluation.onFailure",
    ),
    _metrics(("sft", "merge", "grpo", "rloo", "ppo")),
    _metrics(("dpo", "simpo", "orpo", "kto")),
    _metrics(("distill",)),
    _metrics(("reward",)),
    _metrics(("bestOf",)),
    _judged(("sft", "merge")),
    _judged(("dpo", "simpo", "orpo", "reward")),
    _judged(("kto",)),
    _judged(("distill",)),
    _judged(("grpo", "rloo", "ppo", "bestOf")),
    *(_patches_its_method(name) for name in ("dpo", "simpo", "orpo", "kto", "reward", "grpo", "rloo", "ppo")),
)
