"""The rows of every method as tokens, apart from those that are held out."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source
from posttrain_trainer import facts, preflight, task
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.examples import Labelled, Pair, Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.task import Task
from posttrain_trainer.template import ChatFormat

ASKED = "<|im_start|>user\nDouble {0}<|im_end|>\n<|im_start|>assistant\n"
TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "double", "arguments": '{"of": 2}'}}]}
USER = {"role": "user", "content": "Double 2"}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pairs(count: int = 20) -> list[dict[str, Any]]:
    return [{"prompt": f"Double {n}", "chosen": f"{2 * n}", "rejected": f"no {n}"} for n in range(count)]


def labelled(count: int = 20) -> list[dict[str, Any]]:
    return [{"prompt": f"Double {n}", "completion": str(n), "label": n % 2 == 0} for n in range(count)]


class Given:
    """A base and folders from which a run's task is prepared."""

    def __init__(self, base: Path, folder: Path, places: Places) -> None:
        self.base, self.folder, self.places = base, folder, places

    def config(self, rows: list[dict[str, Any]], dataset: dict[str, Any] | None = None, **spec: Any) -> Any:
        file = builders.json_lines(self.folder / "rows.jsonl", rows)
        template = {"inline": spec.pop("template", builders.CHATML)}
        environment = {"dataset": {"uri": f"file://{file}"} | (dataset or {}), "chatTemplate": template}
        return builders.run(self.base, file, allowUntunedBase=True, environment=environment, **spec)

    def prepared(self, rows: list[dict[str, Any]], **spec: Any) -> Task:
        return task.prepare(self.config(rows, **spec), self.places, Stop())


@pytest.fixture
def given(base: Path, tmp_path: Path, places: Places) -> Given:
    return Given(base, tmp_path, places)


@pytest.mark.parametrize("method", ["dpo", "simpo", "orpo", "reward"])
def test_a_pair_is_a_prompt_and_two_answers_with_their_end(given: Given, method: str) -> None:
    found = given.prepared(pairs(), method=method)
    decode = found.chat.tokenizer.decode
    first = found.training[0]
    assert isinstance(first, Pair)
    texts = [decode(ids) for ids in (first.prompt, first.chosen, first.rejected)]
    number = first.number - 1
    end = "<|im_end|>\n" if method == "reward" else "<|im_end|>"
    assert texts == [ASKED.format(number), f"{2 * number}{end}", f"no {number}{end}"], "a score is read at the very end"
    assert (len(found.training), len(found.held_out_rows), len(found.held_out)) == (19, 1, 1)
    assert decode(found.held_out[0].token_ids).endswith(f"{2 * (found.held_out[0].number - 1)}{end}")


def test_what_two_conversations_begin_with_is_the_prompt(given: Given) -> None:
    explicit = given.prepared(pairs(), method="dpo")
    rows = [
        {side: [said("user", row["prompt"]), said("assistant", row[side])] for side in ("chosen", "rejected")}
        for row in pairs()
    ]
    assert given.prepared(rows, method="dpo").training == explicit.training


def test_kto_holds_out_rows_of_both_classes(given: Given) -> None:
    found = given.prepared(labelled(), method="kto")
    assert all(isinstance(row, Labelled) for row in found.training)
    assert [row.is_desirable for row in found.held_out_rows if isinstance(row, Labelled)].count(True) == 1
    assert (len(found.held_out_rows), len(found.held_out)) == (2, 1)


def test_a_prompt_keeps_its_right_answer_and_its_columns(given: Given) -> None:
    rows = [{"prompt": f"Double {n}", "gold": 2 * n, "level": n} for n in range(20)]
    found = given.prepared(rows, method="distill", distill={"teacher": {"uri": f"file://{given.base}"}})
    first = found.training[0]
    assert isinstance(first, Prompt)
    number = first.number - 1
    assert (first.gold, first.columns) == (str(2 * number), {"level": number})
    assert found.chat.tokenizer.decode(first.token_ids) == ASKED.format(number)


def test_merge_learns_nothing_and_is_judged_like_sft(given: Given) -> None:
    merge = {"runs": [{"name": "a"}, {"name": "b"}]}
    found = given.prepared(builders.exchanges(20), method="merge", tuning={}, merge=merge)
    assert list(found.training) == []
    assert found.held_out == given.prepared(builders.exchanges(20)).held_out


GOOD = {"prompt": "Double 2", "completion": "4", "label": True, "chosen": "4", "rejected": "5"}
"""A row that every method can use."""
SPECS: dict[str, dict[str, Any]] = {
    "merge": {"tuning": {}, "merge": {"runs": [{"name": "a"}, {"name": "b"}]}},
    "bestOf": {"tuning": {}},
}


@pytest.mark.parametrize(
    ("method", "row", "problem"),
    [
        ("sft", {"messages": [USER, CALL]}, "the chat template leaves out the call of 'double'"),
        ("sft", {"messages": [USER]}, "no token to train on: the assistant says nothing in it"),
        ("merge", {"prompt": "a"}, '"completion" is missing'),
        ("dpo", {"prompt": "a", "chosen": "b"}, '"rejected" is missing: write "prompt", "chosen" and "rejected"'),
        ("dpo", {"chosen": "a", "rejected": "b"}, '"prompt" is missing: write it as text, or "chosen"'),
        (
            "dpo",
            {"chosen": [said("user", "a"), said("assistant", "b")], "rejected": [said("user", "c"), CALL]},
            '"chosen" and "rejected" begin with nothing in common: write "prompt"',
        ),
        ("simpo", {"prompt": "a", "rejected": "b"}, '"chosen" is missing'),
        ("orpo", {"prompt": "a", "chosen": "b", "rejected": 3}, '"rejected" is a number: write text'),
        (
            "reward",
            {"prompt": [said("assistant", "a")], "chosen": "b", "rejected": "c"},
            '"prompt" ends with what the assistant or the system says',
        ),
        ("kto", {"prompt": "a", "completion": "b"}, '"label" is missing'),
        ("kto", {"prompt": "a", "completion": "b", "label": "maybe"}, '"label" is "maybe": write true'),
        ("distill", {"gold": "a"}, '"prompt" is missing: write "prompt", and the right answer'),
        ("distill", {"prompt": "x" * 200}, "219 tokens, but maxLength is 128: shorten the row"),
        ("bestOf", {"gold": "a"}, '"prompt" is missing: write "prompt", and the right answer'),
        ("bestOf", {"prompt": "a"}, 'reward exact needs the right answer: write "gold" or "completion"'),
    ],
)
def test_a_wrong_row_is_named(given: Given, method: str, row: dict[str, Any], problem: str) -> None:
    spec = {"method": method, **SPECS.get(method, {})}
    if method == "distill":
        spec["distill"] = {"teacher": {"uri": f"file://{given.base}"}}
    rewards = {"rewards": [{"builtin": "exact"}]} if method == "bestOf" else {}
    file = builders.json_lines(given.folder / "rows.jsonl", [GOOD, row])
    environment = {"dataset": {"uri": f"file://{file}"}, "chatTemplate": {"inline": builders.CHATML}} | rewards
    config = builders.run(given.base, file, allowUntunedBase=True, environment=environment, **spec)
    with pytest.raises(Refused) as refused:
        task.prepare(config, given.places, Stop())
    assert refused.value.reason == Reason.DATASET_INVALID
    assert f"{file}: row 2: {problem}" in str(refused.value)


def test_kto_without_a_second_class_is_refused(given: Given) -> None:
    with pytest.raises(Refused, match='every row has "label": false: kto needs both classes: add desirable rows'):
        given.prepared([row | {"label": 0} for row in labelled()], method="kto")


def test_a_held_out_row_is_never_trained_on(given: Given) -> None:
    found = given.prepared(builders.exchanges(10) * 2)
    assert found.data is not None
    assert (len(found.training), found.data.leaked, found.data.duplicates) == (18, 1, 9)
    learned = {bytes(row.token_ids) for row in found.training if not isinstance(row, Pair | Labelled)}
    assert not learned & {bytes(row.token_ids) for row in found.held_out}
    assert found.held_out_digest == given.prepared(builders.exchanges(10) * 2).held_out_digest


def test_columns_are_renamed_and_the_limit_ends_the_rows(given: Given) -> None:
    rows = [{"question": f"Double {n}", "completion": str(2 * n)} for n in range(20)]
    found = given.prepared(rows, dataset={"columns": {"question": "prompt"}, "limit": 5})
    assert found.data is not None
    assert (found.data.rows_read, len(found.training)) == (5, 4)


def test_rows_that_cannot_be_used_are_left_out_up_to_a_share(given: Given) -> None:
    rows = [*builders.exchanges(20), {"prompt": "why"}, {"prompt": "x" * 200, "completion": "y"}]
    found = given.prepared(rows, dataset={"invalidRows": "Skip", "maxInvalidShare": 0.1})
    assert found.data is not None
    assert (found.data.rows_read, found.data.rows_refused, found.data.truncated_share) == (22, 2, 0.0455)
    assert found.warnings[0].startswith("2 of 22 rows were left out: row 21: ")
    with pytest.raises(Refused, match=r"more than maxInvalidShare 0.05 of 22 rows are wrong: row 21: .*; row 22: "):
        given.prepared(rows, dataset={"invalidRows": "Skip"})


@pytest.mark.parametrize(
    ("row", "sft", "expected"),
    [
        pytest.param(
            {"messages": [USER, said("assistant", "4"), said("user", "8?"), said("assistant", "16")]},
            {"completionOnly": True},
            "Double 2<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\n8?<|im_end|>\n"
            "<|im_start|>assistant\n⟦16<|im_end|>⟧\n",
            id="only the last answer",
        ),
        pytest.param(
            {"messages": [USER, said("assistant", "4")], "unmask": True},
            {},
            "⟦Double 2<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n⟧",
            id="everything but the system message",
        ),
        pytest.param(
            {"messages": [USER, CALL]},
            {},
            'Double 2<|im_end|>\n<|im_start|>assistant\n⟦{"name": "double", "arguments": {"of": 2}}<|im_end|>⟧\n',
            id="a tool call",
        ),
    ],
)
def test_what_the_loss_counts_can_be_chosen(
    given: Given, row: dict[str, Any], sft: dict[str, Any], expected: str
) -> None:
    system = said("system", "Be brief.")
    rows = [{**row, "messages": [system, *row["messages"]]}, *builders.exchanges(3)]
    judged = builders.json_lines(given.folder / "judged", builders.exchanges(5)[4:])
    config = given.config(rows, sft=sft, template=TOOLS, evaluation={"dataset": {"uri": f"file://{judged}"}})
    mask = preflight.preflight(config, given.places, Stop()).mask
    assert mask == f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{expected}"


def test_rows_that_another_run_kept_are_read_from_its_folder(given: Given) -> None:
    builders.json_lines(given.places.claims / "out" / "best" / "rows.jsonl", builders.exchanges(20))
    config = given.config([], dataset={"uri": None, "fromRun": {"name": "best"}})
    source = Source(run="best", uri="pvc://out/best", digest=f"sha256:{'0' * 64}", kind="dataset")
    found = task.prepare(config.replace(sources={"environment.dataset": source}), given.places, Stop())
    assert len(found.training) == 19


def test_the_template_s_own_system_prompt_and_refusals_are_found(base: Path) -> None:
    default = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + builders.CHATML
    )
    tokenizer = tokenizers.load(base, "file:///base")
    assert facts.default_system_prompt(ChatFormat(tokenizer, default)) == "You help."
    assert facts.default_system_prompt(ChatFormat(tokenizer, builders.CHATML)) is None
    assert [facts.refuses(text) for text in ("I’m sorry, but no", "I can do that")] == [True, False]


def test_preflight_json_names_every_row_that_is_left_out(given: Given) -> None:
    rows = [*builders.exchanges(20), *[{"prompt": "why"}] * 5]
    config = given.config(rows, dataset={"invalidRows": "Skip", "maxInvalidShare": 0.5})
    preflight.preflight(config, given.places, Stop())
    written = given.places.claims / "out" / "double" / builders.UID / "preflight.json"
    assert len(json.loads(written.read_text())["problems"]) == 5


def test_what_must_not_be_forgotten_is_read_like_sft_s_rows(given: Given) -> None:
    kept = builders.json_lines(given.folder / "kept.jsonl", builders.exchanges(3))
    evaluation = {"metrics": ["exactMatch"], "retention": {"dataset": {"uri": f"file://{kept}"}}}
    found = given.prepared(pairs(), method="dpo", evaluation=evaluation)
    assert [row.number for row in found.retention] == [1, 2, 3]
    assert [question.answer for question in found.retention_questions] == ["0", "2", "4"]
    assert len(found.questions) == 1
