"""The mask: exactly the assistant's turns with their end, whatever the template."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.builders import CHATML, MARKED_CHATML

from posttrain_api.conditions import Reason
from posttrain_trainer import preflight
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.examples import Example
from posttrain_trainer.refusal import Refused
from posttrain_trainer.template import ChatFormat

TURNS = [
    {"role": "user", "content": "Double 2"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 8?"},
    {"role": "assistant", "content": "16, ä"},
]
# Without {% generation %} and with another beginning of a turn after the first.
FORGETFUL = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and loop.last %}(thinks) {% endif %}{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    return tokenizers.load(base, f"file://{base}")


def encoded(chat: ChatFormat, *rows: Row, max_length: int = 512) -> list[Example]:
    return chat.encode(Rows("rows.jsonl", list(rows), "", []), max_length=max_length, between=lambda: None)


def mask(tokenizer: Any, chat_template: str | None, row: Row, *, system_prompt: str | None = None) -> str:
    chat = ChatFormat(tokenizer, chat_template, system_prompt)
    return preflight.mask(chat, encoded(chat, row)[0])


@pytest.mark.parametrize(
    ("row", "system_prompt", "expected"),
    [
        pytest.param(
            Row(1, TURNS),
            None,
            "<|im_start|>user\nDouble 2<|im_end|>\n<|im_start|>assistant\n⟦4<|im_end|>⟧\n"
            "<|im_start|>user\nAnd 8?<|im_end|>\n<|im_start|>assistant\n⟦16, ä<|im_end|>⟧\n",
            id="every turn of the assistant with its end, and nothing else",
        ),
        pytest.param(
            Row(1, TURNS[:2]),
            "Be brief.",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nDouble 2<|im_end|>\n"
            "<|im_start|>assistant\n⟦4<|im_end|>⟧\n",
            id="the system prompt stands before a conversation that has none",
        ),
        pytest.param(
            Row(1, [{"role": "system", "content": "Be long."}, *TURNS[:2]]),
            "Be brief.",
            "<|im_start|>system\nBe long.<|im_end|>\n<|im_start|>user\nDouble 2<|im_end|>\n"
            "<|im_start|>assistant\n⟦4<|im_end|>⟧\n",
            id="a conversation keeps its own system prompt",
        ),
        pytest.param(
            Row(1, [TURNS[0], {"role": "assistant", "content": ""}]),
            None,
            "<|im_start|>user\nDouble 2<|im_end|>\n<|im_start|>assistant\n⟦<|im_end|>⟧\n",
            id="an empty answer teaches to stop",
        ),
        pytest.param(
            Row(1, [TURNS[1], TURNS[0], TURNS[1]]),
            None,
            "<|im_start|>assistant\n⟦4<|im_end|>⟧\n<|im_start|>user\nDouble 2<|im_end|>\n"
            "<|im_start|>assistant\n⟦4<|im_end|>⟧\n",
            id="a conversation that the assistant begins",
        ),
    ],
)
@pytest.mark.parametrize("chat_template", [CHATML, MARKED_CHATML], ids=["unmarked template", "generation markers"])
def test_the_loss_counts_what_the_assistant_writes(
    tokenizer: Any, chat_template: str, row: Row, system_prompt: str | None, expected: str
) -> None:
    assert mask(tokenizer, chat_template, row, system_prompt=system_prompt) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("qwen2_5", ["4<|im_end|>", "16, ä<|im_end|>"], id="Qwen 2.5"),
        pytest.param("gemma3", ["4<end_of_turn>", "16, ä<end_of_turn>"], id="Gemma 3"),
        pytest.param("llama3_2", ["4<|eot_id|>", "16, ä<|eot_id|>"], id="Llama 3.2"),
        pytest.param("phi3", ["4<|end|>", "16, ä<|end|>"], id="Phi 3, which ends the last turn twice"),
        pytest.param(
            "qwen3_training",
            ["<think>\n\n</think>\n\n4<|im_end|>", "<think>\n\n</think>\n\n16, ä<|im_end|>"],
            id="Qwen 3 as TRL marks it",
        ),
        pytest.param("qwen3", None, id="Qwen 3, which forgets what it thought in earlier turns"),
    ],
)
def test_templates_of_the_field_are_understood_or_refused(base: Path, name: str, expected: list[str] | None) -> None:
    source = (resources.files("trl") / "chat_templates" / f"{name}.jinja").read_text()
    tokens = re.findall(r"<\|\w+\|>|<\w+_of_turn>", source)
    tokenizer = tokenizers.load(base, f"file://{base}")
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(tokens)), "bos_token": "<|bos|>"})
    if expected is None:
        with pytest.raises(Refused, match="writes message 2 of a conversation otherwise when more follows"):
            mask(tokenizer, source, Row(1, TURNS))
    else:
        assert re.findall("⟦(.*?)⟧", mask(tokenizer, source, Row(1, TURNS)), flags=re.DOTALL) == expected


def test_plain_text_is_trained_whole_but_for_its_first_token(tokenizer: Any) -> None:
    assert mask(tokenizer, None, Row(1, text="It rains.")) == "I⟦t rains.<|endoftext|>⟧"


def test_markers_say_what_the_assistant_wrote_where_a_turn_depends_on_what_follows(tokenizer: Any) -> None:
    marked = FORGETFUL.replace(
        "{{ message.content }}<|im_end|>", "{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    )
    assert mask(tokenizer, marked, Row(1, TURNS)).count("⟦") == 4
    with pytest.raises(Refused) as refused:
        mask(tokenizer, FORGETFUL, Row(1, TURNS))
    assert (refused.value.reason, str(refused.value)) == (
        Reason.CHAT_TEMPLATE_INVALID,
        "the chat template writes message 2 of a conversation otherwise when more follows, so what the assistant "
        "writes cannot be told: mark what the assistant writes with {% generation %} and {% endgeneration %}",
    )


def test_the_end_of_a_turn_comes_first_and_the_end_of_text_behind_it(tokenizer: Any) -> None:
    ids = tokenizer.convert_tokens_to_ids
    assert ChatFormat(tokenizer, CHATML).end_of_turn == (ids("<|im_end|>"), ids("<|endoftext|>"))
    assert ChatFormat(tokenizer, None).end_of_turn == (ids("<|endoftext|>"),)


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        pytest.param(
            "{% for message in messages %}", "the chat template, line 1: Unexpected end of template", id="syntax"
        ),
        pytest.param("{{ raise_exception('no users') }}", "no users: it must take a user's", id="refuses everybody"),
        pytest.param("{{ messages[0].content }}", "leaves out what the assistant says", id="no answer"),
        pytest.param(
            "{% for message in messages %}{{ message.content }}{% endfor %}",
            "writes nothing at the end of an assistant's turn",
            id="no end of turn",
        ),
        pytest.param(
            "{% for message in messages %}{{ message.content }}<eot>{% endfor %}",
            "writes '<eot>', which is 5 tokens of this base, at the end of an assistant's turn",
            id="an end of turn that is no token",
        ),
        pytest.param(
            MARKED_CHATML.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>"),
            "leaves out the end of the turn, '<|im_end|>'",
            id="markers without the end of turn",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_is_refused(tokenizer: Any, chat_template: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        ChatFormat(tokenizer, chat_template)
    assert refused.value.reason == Reason.CHAT_TEMPLATE_INVALID
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        pytest.param(
            Row(7, text="x" * 40),
            "row 7: 41 tokens, but maxLength is 40: shorten the row or raise hyperparameters.maxLength",
            id="too long",
        ),
        pytest.param(
            Row(9, TURNS[:1]), "row 9: no token to train on: the assistant says nothing in it", id="no assistant's turn"
        ),
    ],
)
def test_a_row_that_cannot_be_trained_is_named(tokenizer: Any, row: Row, problem: str) -> None:
    with pytest.raises(Refused) as refused:
        encoded(ChatFormat(tokenizer, CHATML), row, Row(1, text="fine"), max_length=40)
    assert (refused.value.reason, str(refused.value)) == (Reason.DATASET_INVALID, f"rows.jsonl: {problem}")


def test_a_row_that_the_template_refuses_is_named(tokenizer: Any) -> None:
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('users begin') }}{% endif %}" + CHATML
    with pytest.raises(Refused, match="row 3: the chat template refuses the conversation: users begin"):
        encoded(ChatFormat(tokenizer, strict), Row(3, TURNS[1:]))


def test_an_answer_is_what_stands_before_the_end_of_the_turn(tokenizer: Any) -> None:
    chat = ChatFormat(tokenizer, CHATML)
    assert chat.answer(tokenizer(" 16 <|im_end|>\n<|im_start|>user")["input_ids"]) == " 16 "
    assert tokenizer.decode(chat.question(TURNS[:1])) == (
        "<|im_start|>user\nDouble 2<|im_end|>\n<|im_start|>assistant\n"
    )
