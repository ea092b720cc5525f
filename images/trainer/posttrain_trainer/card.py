"""The model card beside an artifact: what it is and how to load it, for people who find the folder."""

from collections.abc import Sequence
from typing import Any

from posttrain_api.trainer_contract import RunConfig, TrainingReport

CARD_FILE = "README.md"


def samples(prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> list[dict[str, Any]]:
    """What base and result answered to evaluation.samplePrompts, as lines of samples.jsonl."""
    return [
        {"kind": "samplePrompt", "prompt": prompt, "before": old, "after": new}
        for prompt, old, new in zip(prompts, before, after, strict=True)
    ]


def card(config: RunConfig, report: TrainingReport, samples: Sequence[dict[str, Any]] = ()) -> str:
    """The model card in Markdown."""
    artifact = report.artifact
    return f"""---
base_model: {artifact.base.uri}
library_name: peft
tags: [posttrain, lora, {config.recipe.method}]
---
# {config.name}

A LoRA adapter of rank {artifact.rank} on {", ".join(artifact.target_modules)}, trained with {config.recipe.method} in
{report.steps_completed} steps by posttrain.

| | |
| --- | --- |
| Base | `{artifact.base.uri}`, `{artifact.base.digest}` |
| Digest | `{artifact.digest}` |
| Data | `{report.dataset_digest}` |
| Seed | {config.recipe.hyperparameters.seed} |
| Libraries | {", ".join(f"{name} {version}" for name, version in report.libraries.items())} |

On {report.evaluation.rows} held-out rows:

| Metric | Before | After |
| --- | --- | --- |
{_scores(report)}
{_conversations(samples)}
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("the base's folder"), "this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")  # with the chat template that was trained
```
"""


def _scores(report: TrainingReport) -> str:
    after = report.evaluation.after
    return "\n".join(
        f"| {name} | {_number(value)} | {_number(after.get(name))} |"
        for name, value in report.evaluation.before.items()
    )


def _conversations(samples: Sequence[dict[str, Any]]) -> str:
    return "".join(
        f"\n**Prompt**\n\n{_quoted(sample['prompt'])}\n\nBefore:\n\n{_quoted(sample['before'])}\n\nAfter:\n\n"
        f"{_quoted(sample['after'])}\n"
        for sample in samples
    )


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines() or [""])


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"
