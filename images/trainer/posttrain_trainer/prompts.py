"""Prompts and their answers as tokens, for the methods that compare answers or let the model answer.

A prompt ends where the assistant answers; an answer is the assistant's turn with its end of turn.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_trainer import template
from posttrain_trainer.data import Message, Problems, Row, Rows
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.template import ChatFormat, Tools

Answered = Pair | Labelled | Prompt
Tokens = tuple["array[int]", "array[int]"]
Divide = Callable[[ChatFormat, Sequence[Message], Sequence[Message], Tools], Tokens]

_CHUNK = 512


def encode(
    chat: ChatFormat, rows: Rows, divide: Divide, *, max_length: int, between: Callable[[], None]
) -> list[Answered]:
    """The rows that can be trained; Refused names the others where there are more than may be. `between` is called at
    times; `divide` makes the tokens of a prompt and of an answer: `split`, or `scored` for a reward model."""
    problems = rows.problems or Problems(rows.name)
    found = []
    for count, row in enumerate(rows.rows, start=1):
        try:
            encoded = _encoded(chat, row, divide)
            if problems.fits(encoded.number, encoded.num_tokens, max_length):
                found.append(encoded)
        except ValueError as error:
            problems.add(f"row {row.number}", str(error))
        if count % _CHUNK == 0:
            between()
    between()
    problems.refuse()
    return found


def judged(rows: Sequence[Answered], chat: ChatFormat) -> list[Example]:
    """Prompts with their right answer: the chosen one, the desirable rows, the right answer where there is one."""
    return [example for row in rows if (example := _right(row, chat)) is not None]


def text_of(row: Answered) -> Example:
    """A row as one text whose answer, if it has one, is learned: the chosen one of a pair."""
    match row:
        case Pair():
            return _example(row.number, row.prompt, row.chosen)
        case Labelled():
            return _example(row.number, row.prompt, row.completion)
        case Prompt():
            return _example(row.number, row.token_ids, array("i"))


def split(chat: ChatFormat, prompt: Sequence[Message], answer: Sequence[Message], tools: Tools = None) -> Tokens:
    """The tokens of a prompt, and those of the answer behind it; ValueError where the template refuses them."""
    before, whole = _rendered(chat, prompt, answer, tools)
    begin, ids = _ids(chat, before), _ids(chat, whole)
    # A token may reach over the end of the prompt; the model begins its answers behind the prompt's own last token.
    rest = ids[len(begin) :] if ids[: len(begin)] == begin else _ids(chat, whole[len(before) :])
    return array("i", begin), array("i", rest[: chat.length_of_turn(rest)])


def scored(chat: ChatFormat, prompt: Sequence[Message], answer: Sequence[Message], tools: Tools = None) -> Tokens:
    """The tokens of a conversation as a server renders it, parted where the answer begins; ValueError likewise.

    A score is read at the last token, which a template may write behind the end of the turn. The first part is empty
    where a token reaches over the end of the prompt.
    """
    before, whole = _rendered(chat, prompt, answer, tools)
    begin, ids = _ids(chat, before), _ids(chat, whole)
    place = len(begin) if ids[: len(begin)] == begin else 0
    return array("i", ids[:place]), array("i", ids[place:])


def _rendered(chat: ChatFormat, prompt: Sequence[Message], answer: Sequence[Message], tools: Tools) -> tuple[str, str]:
    """The prompt up to where the answer begins, and the same with the answer."""
    messages = chat.conversation(prompt)
    before = chat.render(messages, add_generation_prompt=True, tools=tools)
    whole = chat.render([*messages, *answer], tools=tools)
    template.check_calls(answer, whole)
    if not whole.startswith(before):
        raise Refused(
            Reason.CHAT_TEMPLATE_INVALID,
            "the chat template writes a prompt otherwise when an answer follows, so the two cannot be told apart: "
            "begin the assistant's turn with what add_generation_prompt writes",
        )
    return before, whole


def _encoded(chat: ChatFormat, row: Row, divide: Divide) -> Answered:
    if not row.answers:
        ids = array("i", chat.question(row.messages, row.tools))
        return Prompt(row.number, row.messages, ids, row.gold, dict(row.columns), row.right)
    prompt, first = divide(chat, row.messages, row.answers[0], row.tools)
    if row.label is not None:
        return Labelled(row.number, prompt, first, row.label)
    return Pair(row.number, prompt, first, divide(chat, row.messages, row.answers[1], row.tools)[1])


def _right(row: Answered, chat: ChatFormat) -> Example | None:
    match row:
        case Pair():
            return _example(row.number, row.prompt, row.chosen)
        case Labelled():
            return _example(row.number, row.prompt, row.completion) if row.is_desirable else None
        case Prompt():
            if row.right is None:
                return None
            return _example(row.number, *split(chat, row.messages, [{"role": "assistant", "content": row.right}]))


def _example(number: int, prompt: "array[int]", answer: "array[int]") -> Example:
    return Example(number, prompt + answer, bytearray(len(prompt)) + bytearray([1]) * len(answer))


def _ids(chat: ChatFormat, text: str) -> list[int]:
    found: Any = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(found)
