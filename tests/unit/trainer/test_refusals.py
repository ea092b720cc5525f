"""Every run that cannot be trained is refused by preflight, with the reason and the place."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_trainer import preflight
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop


@dataclass(frozen=True)
class Given:
    """What a refused run is made from."""

    base: Path
    data: Path
    folder: Path
    """Empty, for what the run needs besides."""


Refusal = Callable[[Given], RunConfig]
MISSING = {"name": "chat", "key": "a.jinja"}
CHATML = {"inline": builders.CHATML}


def _without(given: Given, *names: str) -> Path:
    """A copy of the base that lacks these files."""
    folder = given.folder / "b"
    shutil.copytree(given.base, folder, ignore=shutil.ignore_patterns(*names))
    return folder


def _judged_by(given: Given, row: dict[str, str]) -> RunConfig:
    judged = builders.json_lines(given.folder / "judged.jsonl", [row])
    evaluation = {"metrics": ["exactMatch"], "dataset": {"uri": f"file://{judged}"}}
    return builders.run(given.base, given.data, evaluation=evaluation)


def _long_names() -> dict[str, Any]:
    return {"metrics": [f"lm-eval:{place:064}" for place in range(16)], "lmEval": {"uri": "pvc://data/tasks"}}


def _damaged(given: Given, name: str, content: str) -> Path:
    """A copy of the base with another file of this name."""
    folder = given.folder / "b"
    shutil.copytree(given.base, folder)
    (folder / name).write_text(content)
    return folder


def _environment(given: Given, **parts: Any) -> dict[str, Any]:
    return {"dataset": {"uri": f"file://{given.data}"}, **parts}


def _small_vocabulary(given: Given) -> Path:
    import safetensors.torch

    folder = _without(given)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:258].clone()
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    return folder


REFUSALS: dict[str, tuple[Refusal, Reason, str]] = {
    "no base": (
        lambda given: builders.run(given.folder / "none", given.data),
        Reason.MODEL_NOT_FOUND,
        "/none: there is no such folder",
    ),
    "a base without configuration": (
        lambda given: builders.run(_without(given, "config.json"), given.data),
        Reason.MODEL_INVALID,
        "/b: config.json is missing: this is no transformers model",
    ),
    "a base without safetensors": (
        lambda given: builders.run(_without(given, "*.safetensors"), given.data),
        Reason.MODEL_INVALID,
        "/b: there are no *.safetensors: only this format is loaded",
    ),
    "weights cut short": (
        lambda given: builders.run(_damaged(given, "model.safetensors", "cut"), given.data),
        Reason.MODEL_INVALID,
        "/b: model.safetensors cannot be read: ",
    ),
    "a part of the weights is missing": (
        lambda given: builders.run(
            _damaged(
                given,
                "model.safetensors.index.json",
                '{"weight_map": {"x": "part-2.safetensors"}}',
            ),
            given.data,
        ),
        Reason.MODEL_INVALID,
        "/b: model.safetensors.index.json names part-2.safetensors, which is missing",
    ),
    "a base without tokenizer": (
        lambda given: builders.run(_without(given, "tokenizer*"), given.data),
        Reason.MODEL_INVALID,
        "/b: the base has no tokenizer: tokenizer.json is missing",
    ),
    "a broken tokenizer": (
        lambda given: builders.run(_damaged(given, "tokenizer.json", "{}"), given.data),
        Reason.MODEL_INVALID,
        "/b: the tokenizer cannot be read: ",
    ),
    "a tokenizer of another model": (
        lambda given: builders.run(
            given.base,
            given.data,
            environment=_environment(given, systemPrompt="<|endoftext|>", chatTemplate=CHATML),
            baseModel={"uri": f"file://{_small_vocabulary(given)}"},
        ),
        Reason.MODEL_INVALID,
        "/b: the tokenizer makes token 258, but the model knows only 258: "
        "use the tokenizer that the base was trained with",
    ),
    "no chat template anywhere": (
        lambda given: builders.run(given.base, given.data, environment=_environment(given)),
        Reason.CHAT_TEMPLATE_MISSING,
        "neither the base nor the run has a chat template: write environment.chatTemplate.inline or .configMap, "
        "a Jinja template that renders `messages`",
    ),
    "a chat template in a missing ConfigMap": (
        lambda given: builders.run(
            given.base,
            given.data,
            environment=_environment(given, chatTemplate={"configMap": MISSING}),
        ),
        Reason.CHAT_TEMPLATE_MISSING,
        "the chat template cannot be read: ConfigMap chat, key a.jinja: ",
    ),
    "a chat template with an error": (
        lambda given: builders.run(
            given.base, given.data, environment=_environment(given, chatTemplate={"inline": "\n{% if %}"})
        ),
        Reason.CHAT_TEMPLATE_INVALID,
        "the chat template, line 2: Expected an expression, got 'end of statement block'",
    ),
    "a dataset in a missing ConfigMap": (
        lambda given: builders.run(
            given.base, given.data, environment={"dataset": {"configMap": {"name": "rows", "key": "a.jsonl"}}}
        ),
        Reason.DATASET_INVALID,
        "ConfigMap rows, key a.jsonl: there is no such file",
    ),
    "a single row": (
        lambda given: builders.run(given.base, builders.json_lines(given.folder / "one", [{"text": "alone"}])),
        Reason.DATASET_INVALID,
        "/one: 1 row, and one is held out to judge the result: add rows, or give evaluation.dataset",
    ),
    "rows that are too long": (
        lambda given: builders.run(given.base, given.data, hyperparameters={"maxLength": 8}),
        Reason.DATASET_INVALID,
        "/rows.jsonl: row 1: 30 tokens, but maxLength is 8: shorten the row",
    ),
    "a held-out row without an answer": (
        lambda given: _judged_by(given, {"text": "It rains."}),
        Reason.DATASET_INVALID,
        "/judged.jsonl: row 1: a metric on answers, such as exactMatch, needs one here: "
        "write a conversation, or remove it",
    ),
    "a layer's name with a slip of the pen": (
        lambda given: builders.run(given.base, given.data, tuning={"lora": {"targetModules": ["q_porj"]}}),
        Reason.TARGET_MODULES_INVALID,
        "has no linear layer 'q_porj' (nearest: q_proj, v_proj, o_proj): write some of down_proj, ",
    ),
    "a start from the base's own weights with more directions than they have": (
        lambda given: builders.run(given.base, given.data, tuning={"lora": {"init": "pissa", "rank": 64}}),
        Reason.INVALID_SPEC,
        "tuning.lora.rank with init pissa is 64, and layer model.layers.0.mlp.down_proj of file:///",
    ),
    "so much of a layer moves that nothing of it stays": (
        lambda given: builders.run(given.base, given.data, tuning={"osft": {"unfreezeRankRatio": 0.99}}),
        Reason.TUNING_UNSUPPORTED,
        " has 32 directions, of which at least one must stay: write 0.968 or less, or tuning.full",
    ),
    "more names of metrics than a report holds": (
        lambda given: builders.run(given.base, given.data, evaluation=_long_names()),
        Reason.EVALUATION_INVALID,
        "evaluation.metrics: the names of 16 metrics, of the base and of the output are too long together for a "
        "report: name fewer metrics, or shorten the names of the lm-eval tasks",
    ),
    "layers that the base has not": (
        lambda given: builders.run(
            given.base, given.data, tuning={"lora": {"targetModules": ["q_proj", "query", "embed_tokens"]}}
        ),
        Reason.TARGET_MODULES_INVALID,
        "has no linear layer 'query': write some of down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, "
        "or attention or mlp, or leave targetModules out to adapt all of them",
    ),
}


@pytest.mark.parametrize(("refusal", "reason", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_run_that_cannot_be_trained_is_refused(
    base: Path, tmp_path: Path, places: Places, stop: Stop, refusal: Refusal, reason: Reason, message: str
) -> None:
    data = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(20))
    with pytest.raises(Refused) as refused:
        preflight.preflight(refusal(Given(base, data, tmp_path)), places, stop)
    assert refused.value.reason == reason
    assert message in str(refused.value)
