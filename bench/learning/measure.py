"""Measurements with nothing but transformers, peft and lm-evaluation-harness: no line of the trainer takes part."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from examples.demo import measure
from examples.demo.tasks import Row
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bench.learning import rows as data

ADAPTER_CONFIG = "adapter_config.json"
LM_EVAL_TASK = """
task: answers
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer.removeprefix('=')}}"
generation_kwargs: {until: ["<|im_end|>"], do_sample: false, max_gen_toks: 20}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}


class Model(NamedTuple):
    """What is measured."""

    base: Path
    adapter: Path | None = None

    @property
    def folder(self) -> Path:
        """Where its tokenizer and its chat template are."""
        return self.adapter or self.base


def result(base: Path, folder: Path) -> Model:
    """What a training on a base published: an adapter for it, or a model of its own."""
    return Model(base, folder) if (folder / ADAPTER_CONFIG).exists() else Model(folder)


def exact_match(model: Model, rows: Sequence[Row]) -> float:
    """Share of rows that are answered to the letter (greedily)."""
    return measure.exact_match(base=model.base, adapter=model.adapter, rows=rows)


def exact_match_by_harness(model: Model, rows: Sequence[Row], scratch: Path) -> float:
    """The same by lm-evaluation-harness, which loads the model itself; files of its task go into `scratch`."""
    os.environ.update(OFFLINE)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    tokenizer = _tokenizer(model)
    # The sign keeps the loader of datasets from making a timestamp of what looks like one.
    asked = [{"question": _asked(tokenizer, row.question), "answer": f"={row.answer}"} for row in rows]
    rows_file = data.write(scratch / "answers.jsonl", asked)
    (scratch / "answers.yaml").write_text(LM_EVAL_TASK.replace("DATA", str(rows_file)))
    arguments = {"pretrained": str(model.base), "dtype": "float32", "tokenizer": str(model.folder)}
    found = simple_evaluate(
        model="hf",
        model_args=arguments | ({"peft": str(model.adapter)} if model.adapter else {}),
        task_manager=TaskManager(include_path=str(scratch), include_defaults=False),
        tasks=["answers"],
        device="cpu",
        batch_size=32,
        bootstrap_iters=0,
    )
    return float(found["results"]["answers"]["exact_match,none"])


@torch.inference_mode()
def mean_nats(model: Model, rows: Sequence[Row]) -> float:
    """Mean loss of the right answers' tokens."""
    loaded, tokenizer = load(model)
    return -sum(float(_scored(loaded, tokenizer, *row).mean()) for row in rows) / len(rows)


@torch.inference_mode()
def mean_probability(model: Model, rows: Sequence[Row]) -> float:
    """Mean probability of a whole answer."""
    loaded, tokenizer = load(model)
    return sum(float(_scored(loaded, tokenizer, *row).sum().exp()) for row in rows) / len(rows)


@torch.inference_mode()
def preference_accuracy(model: Model, pairs: Sequence[dict[str, str]]) -> float:
    """Share of pairs whose chosen answer is likelier per token."""
    loaded, tokenizer = load(model)

    def likelihood(pair: dict[str, str], side: str) -> float:
        return float(_scored(loaded, tokenizer, pair["prompt"], pair[side]).mean())

    return sum(likelihood(pair, "chosen") > likelihood(pair, "rejected") for pair in pairs) / len(pairs)


@torch.inference_mode()
def ranking_margins(folder: Path, pairs: Sequence[dict[str, str]], *, num_heads: int = 1) -> torch.Tensor:
    """By how much the chosen answer scores higher, shape [pairs, heads]; a model without a head gets random ones."""
    found = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=num_heads, dtype=torch.float32).eval()
    tokenizer = _tokenizer(Model(folder))

    def scores(prompt: str, answer: str) -> torch.Tensor:
        conversation = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)
        logits: torch.Tensor = found(**ids).logits[0]
        return logits

    return torch.stack(
        [scores(pair["prompt"], pair["chosen"]) - scores(pair["prompt"], pair["rejected"]) for pair in pairs]
    )


@torch.inference_mode()
def divergence(model: Model, teacher: Model, rows: Sequence[Row]) -> float:
    """Mean KL from the teacher to the model on the answers, in nats per token."""
    (student, tokenizer), (guide, _) = load(model), load(teacher)
    total, count = 0.0, 0
    for row in rows:
        ours, theirs = (_distributions(found, tokenizer, *row)[0] for found in (student, guide))
        total += float((theirs.exp() * (theirs - ours)).sum())
        count += ours.shape[0]
    return total / count


def mean_sampled_score(model: Model, rows: Sequence[Row], *, samples: int, seed: int) -> float:
    """Share of right answers among those sampled at temperature 1."""
    asked = [row for row in rows for _ in range(samples)]
    given = sampled(model, [row.question for row in asked], seed=seed)
    return sum(answer == row.answer for answer, row in zip(given, asked, strict=True)) / len(asked)


@torch.inference_mode()
def sampled(model: Model, questions: Sequence[str], *, seed: int, max_tokens: int = 20) -> list[str]:
    """An answer to each question at temperature 1, without what ends its turn."""
    torch.manual_seed(seed)
    loaded, tokenizer = load(model)
    asked = [_asked(tokenizer, question) for question in questions]
    inputs = tokenizer(asked, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(measure.TURN_END)]
    made = loaded.generate(**inputs, max_new_tokens=max_tokens, do_sample=True, top_k=0, top_p=1.0, eos_token_id=ends)
    return list(tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def load(model: Model) -> tuple[Any, Any]:
    """A model and its tokenizer with a chat template."""
    found: Any = AutoModelForCausalLM.from_pretrained(model.base, dtype=torch.float32)
    if model.adapter is not None:
        found = PeftModel.from_pretrained(found, str(model.adapter))
    return found.eval(), _tokenizer(model)


def merged(model: Model, into: Path) -> Path:
    """The base with an adapter merged in by PEFT, as a folder to start from."""
    found, tokenizer = load(model)
    found.merge_and_unload().save_pretrained(into)
    tokenizer.save_pretrained(into)
    return into


def _tokenizer(model: Model) -> Any:
    found = AutoTokenizer.from_pretrained(model.folder)
    found.chat_template = found.chat_template or measure.CHAT_TEMPLATE
    return found


def _asked(tokenizer: Any, question: str) -> str:
    turn = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def _distributions(model: Any, tokenizer: Any, question: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities over each token of an answer, shape [length, vocabulary], and its ids, shape [length, 1]."""
    asked = tokenizer(_asked(tokenizer, question), add_special_tokens=False)["input_ids"]
    ids = tokenizer(answer + measure.TURN_END, add_special_tokens=False)["input_ids"]
    # Counted from the end: prompt tuning puts vectors before the first token.
    logits = model(input_ids=torch.tensor([[*asked, *ids]])).logits[0, -len(ids) - 1 : -1]
    return logits.log_softmax(-1), torch.tensor(ids)[:, None]


def _scored(model: Any, tokenizer: Any, question: str, answer: str) -> torch.Tensor:
    """Log probability of each token of an answer."""
    found, ids = _distributions(model, tokenizer, question, answer)
    return found.gather(1, ids)
