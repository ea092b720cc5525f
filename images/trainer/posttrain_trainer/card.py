"""The model card beside an artifact: what it is, how good it is and how to load it, for people who find the folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from posttrain_api import gates
from posttrain_api.artifact import Kind
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_trainer.template import ChatFormat

CARD_FILE = "README.md"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_LIBRARY: dict[Kind, str] = {
    "lora": "peft",
    "prompt": "peft",
    "model": "transformers",
    "reward-model": "transformers",
    "dataset": "datasets",
}


def samples(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    """What base and result answered to evaluation.samplePrompts, as lines of samples.jsonl."""
    return [
        {"kind": "samplePrompt", "prompt": prompt, "before": old, "after": new}
        for prompt, old, new in zip(prompts, before, after, strict=True)
    ]


def card(
    config: RunConfig,
    report: TrainingReport,
    chat: ChatFormat,
    *,
    samples: Sequence[dict[str, Any]] = (),
    findings: Mapping[str, Any] = _NOTHING,
) -> str:
    """The model card in Markdown. `findings`: what was found on the way, as in report.json."""
    artifact = report.artifact
    parts = [
        f"""---
base_model: {artifact.base.uri}
library_name: {_LIBRARY[artifact.kind]}
tags: [posttrain, {artifact.kind}, {config.recipe.method}]
---
# {config.name}

{_what(config, report)} by posttrain.
""",
        _table(("", ""), _facts(config, report, findings)),
        f"## Evaluation\n\nOn {report.evaluation.rows} held-out rows:\n",
        _table(("Metric", "Before", "After"), _scores(report)),
        _gates(config, report),
        _health(config, report, findings),
        _conversations(samples),
        f"## How to load it\n\n```python\n{_SNIPPETS[artifact.kind](chat)}```\n",
    ]
    return "\n".join(part for part in parts if part)


def _what(config: RunConfig, report: TrainingReport) -> str:
    artifact, method = report.artifact, config.recipe.method
    what = {
        "lora": f"A LoRA adapter of rank {artifact.rank} on {', '.join(artifact.target_modules)}",
        "model": f"A whole model ({_tuning(config)})",
        "reward-model": f"A reward model ({_tuning(config)}), which gives a conversation one raw score",
        "prompt": f"A tuned prompt ({_tuning(config)}), which stands before every conversation",
        "dataset": "A dataset of a model's best answers, in the form that sft reads",
    }[artifact.kind]
    how = f"trained with {method} in {report.steps_completed} steps" if method in TRAINING else f"made with {method}"
    return f"{what}, {how}"


def _tuning(config: RunConfig) -> str:
    tuning = config.recipe.tuning
    if tuning.lora is not None:
        return f"{'DoRA' if tuning.lora.dora else 'LoRA'} of rank {tuning.lora.rank}, merged into its base"
    if tuning.prompt_tuning is not None:
        return f"{tuning.prompt_tuning.virtual_tokens} virtual tokens"
    if tuning.osft is not None:
        return f"OSFT, {tuning.osft.unfreeze_rank_ratio:g} of each layer's directions"
    return "every weight was tuned"


def _facts(config: RunConfig, report: TrainingReport, findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    artifact = report.artifact
    yield "Base", f"`{artifact.base.uri}`, `{artifact.base.digest}`"
    for place, source in sorted(config.sources.items()):
        yield f"Parent: {place}", f"run {source.run}, `{source.digest}`"
    yield "Digest", f"`{artifact.digest}`"
    yield "Data", f"`{report.dataset_digest}`"
    yield "Seed", str(config.recipe.hyperparameters.seed)
    yield "Libraries", ", ".join(f"{name} {version}" for name, version in report.libraries.items())
    for found in report.checkpoints:
        yield f"Checkpoint {found.name}", f"`{found.digest}`"
    if "earlyStopping" in findings:
        best = findings["earlyStopping"]
        steps = f"step {best['bestStep']} of {report.steps_planned}"
        yield "Early stopping", f"the weights of {steps}, {best['metric']} {_number(best['bestValue'])}"
    if "explainedVariance" in findings:
        yield "EVA", f"explains {findings['explainedVariance']:.0%} of the variance of what the layers see"
    yield from _of_rewards(findings)


def _of_rewards(findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was found by a method that learns from rewards."""
    if "signal" in findings:
        found = findings["signal"]
        spread = f"{1 - found['noSpreadShare']:.0%} of {found['prompts']} prompts had answers of different scores"
        yield "Signal of the start", f"{found['passRate']:.1%} of {found['answers']} answers right, {spread}"
    if "curriculum" in findings:
        found = findings["curriculum"]
        left_out = f"{found['always']} prompts that were always solved and {found['never']} that were never"
        yield "Curriculum", f"of {found['prompts']}, left out in the end: {left_out}"


def _scores(report: TrainingReport) -> Iterator[tuple[str, ...]]:
    after = report.evaluation.after
    for name, value in report.evaluation.before.items():
        yield name, _number(value), _number(after.get(name))


def _gates(config: RunConfig, report: TrainingReport) -> str:
    measured = report.evaluation
    found = gates.results(config.recipe.evaluation.gates, before=measured.before, after=measured.after)
    rows = [
        (gate.metric, f"{gate.bound} {gate.threshold:g}", _number(gate.value), "yes" if gate.passed else "no")
        for gate in found
    ]
    return _table(("Gate", "Bound", "Value", "Passed"), rows) if rows else ""


def _health(config: RunConfig, report: TrainingReport, findings: Mapping[str, Any]) -> str:
    """What was wrong at the end of a training that learned from rewards."""
    if config.recipe.health is None:
        return ""
    lines = [
        f"- {found.rule} ended the training at step {report.steps_completed}: {found.message}"
        if found.stopped
        else f"- {found.rule}, since step {found.step}: {found.message}"
        for found in report.health
    ]
    if "bestAnswers" in findings:
        best = findings["bestAnswers"]
        reached = f"a {best['metric']} of {_number(best['bestValue'])}"
        lines.append(f"- The result has the weights of step {best['bestStep']}, whose answers had {reached}.")
    return "\n".join(["## Health\n", *(lines or ["- No rule was broken at the end."]), ""])


def _conversations(samples: Sequence[dict[str, Any]]) -> str:
    texts = [
        f"**Prompt**\n\n{_quoted(sample['prompt'])}\n\nBefore:\n\n{_quoted(sample['before'])}\n\nAfter:\n\n"
        f"{_quoted(sample['after'])}\n"
        for sample in samples
    ]
    return "\n".join(["## Answers\n", *texts]) if texts else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines() or [""])


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"


_QUESTION = 'messages = [{"role": "user", "content": "Hello"}]\n'


def _asked(chat: ChatFormat, options: str = "") -> str:
    """Python that asks `model` with `tokenizer`."""
    encode = (
        f"{_QUESTION}inputs = tokenizer.apply_chat_template("
        'messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")\n'
        if chat.template is not None
        else 'inputs = tokenizer("Hello", return_tensors="pt")\n'
    )
    return f"""{encode}answer = model.generate(**inputs, max_new_tokens=64{options})[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


def _on_its_base(chat: ChatFormat) -> str:
    return f"""from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("the base's folder"), "this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")  # with the chat template that was trained
{_asked(chat, f", eos_token_id={list(chat.end_of_turn)}")}"""


def _whole(chat: ChatFormat) -> str:
    return f"""from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
{_asked(chat)}"""


def _scoring(_chat: ChatFormat) -> str:
    return f"""from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("this folder").eval()
tokenizer = AutoTokenizer.from_pretrained("this folder")
{_QUESTION}messages.append({{"role": "assistant", "content": "Hello! How can I help?"}})
inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
print(model(**inputs).logits[0, 0].item())  # the raw score
"""


def _rows(_chat: ChatFormat) -> str:
    return """import json

rows = [json.loads(line) for line in open("this folder/rows.jsonl")]
print(rows[0]["messages"], rows[0]["score"])
"""


_SNIPPETS = {
    "lora": _on_its_base,
    "prompt": _on_its_base,
    "model": _whole,
    "reward-model": _scoring,
    "dataset": _rows,
}
"""Kind of an artifact -> Python that uses it."""
