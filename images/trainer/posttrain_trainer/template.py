"""How a row becomes tokens: the chat template, and which tokens the loss counts.

The mask is computed here and nowhere else, for preflight, training and evaluation alike. A template with
{% generation %} markers says itself what the assistant wrote; for any other, a turn is what comes after the generation
prompt, which is found by rendering the conversation up to the turn and comparing the beginnings.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import MASK_OPEN
from posttrain_trainer import chat_template
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.data import Message, Problems, Row, Rows
from posttrain_trainer.examples import Example
from posttrain_trainer.refusal import Refused

Tools = list[dict[str, Any]] | None
"""Descriptions of tools, for templates that write them."""
Span = tuple[int, int]
"""Start and end of something in a text, in characters."""

_CHUNK = 512
_GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SAMPLE: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
_MARK_IT = "mark what the assistant writes with {% generation %} and {% endgeneration %}"


class ChatFormat:
    """A tokenizer with the chat template that is trained and served with it."""

    def __init__(
        self, tokenizer: Any, template: str | None, system_prompt: str | None = None, *, completion_only: bool = False
    ) -> None:
        """Refused where the template cannot be used. `completion_only`: the loss counts the last answer alone."""
        self.tokenizer = tokenizer
        self.template = template
        self._system_prompt = system_prompt
        self._completion_only = completion_only
        self._is_marked = template is not None and bool(_GENERATION_MARKER.search(template))
        self.end_of_turn = self._end_of_turn() if template is not None else tokenizers.end_of_text(tokenizer)
        """Tokens that end an answer; the first is the one that the template writes."""
        self._end_text = tokenizer.decode(self.end_of_turn[:1])

    def encode(self, rows: Rows, *, max_length: int, between: Callable[[], None]) -> list[Example]:
        """The rows that can be trained, as tokens and mask; Refused names the others where there are more than may be.
        `between` is called at times."""
        problems = rows.problems or Problems(rows.name)
        examples: list[Example] = []
        source = iter(rows.rows)
        while chunk := list(islice(source, _CHUNK)):
            examples += self._encoded(chunk, max_length, problems)
            between()
        problems.refuse()
        return examples

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """The messages under the run's system prompt, where they have none of their own."""
        if self._system_prompt is None or any(message["role"] == "system" for message in messages):
            return list(messages)
        return [{"role": "system", "content": self._system_prompt}, *messages]

    def question(self, messages: Sequence[Message], tools: Tools = None) -> list[int]:
        """The token ids after which the assistant answers these messages."""
        text = self.render(self.conversation(messages), add_generation_prompt=True, tools=tools)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def answer(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens up to the end of the turn, space around it included."""
        text: str = self.tokenizer.decode(list(token_ids[: self.end_of_answer(token_ids)]), skip_special_tokens=True)
        return text

    def end_of_answer(self, token_ids: Sequence[int]) -> int | None:
        """The place of the token that ends an answer; None where it was cut off."""
        return next((place for place, token in enumerate(token_ids) if token in self.end_of_turn), None)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tools: Tools = None) -> str:
        """The conversation as text; ValueError where the template refuses it."""
        return self._rendered(messages, add_generation_prompt=add_generation_prompt, tools=tools)[0]

    def _rendered(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        spans: bool = False,
        tools: Tools = None,
    ) -> tuple[str, list[Span]]:
        try:
            texts, found = render_jinja_template(
                [list(messages)],
                tools=tools,
                chat_template=self.template,
                add_generation_prompt=add_generation_prompt,
                return_assistant_tokens_mask=spans,
                **self.tokenizer.special_tokens_map,
            )
        except jinja2.TemplateSyntaxError as error:
            raise Refused(
                Reason.CHAT_TEMPLATE_INVALID, f"the chat template, line {error.lineno}: {error.message}"
            ) from error
        except (jinja2.TemplateError, TypeError) as error:
            raise ValueError(f"the chat template refuses the conversation: {error}") from error
        return texts[0], [(start, end) for start, end in found[0]] if spans else []

    def _encoded(self, rows: Sequence[Row], max_length: int, problems: Problems) -> Iterator[Example]:
        texts = [self._marked_text(row, problems) for row in rows]
        usable = [(row, marked) for row, marked in zip(rows, texts, strict=True) if marked is not None]
        if not usable:
            return
        encoding = self.tokenizer(
            [text for _, (text, _) in usable], add_special_tokens=False, return_offsets_mapping=True
        )
        for (row, (_, spans)), ids, offsets in zip(
            usable, encoding["input_ids"], encoding["offset_mapping"], strict=True
        ):
            example = self._example(row, ids, offsets, spans)
            if not problems.fits(example.number, example.num_tokens, max_length):
                continue
            if example.num_trained:
                yield example
            else:
                problems.add(f"row {row.number}", "no token to train on: the assistant says nothing in it")

    def _marked_text(self, row: Row, problems: Problems) -> tuple[str, list[Span]] | None:
        """A row's text and the spans that the assistant writes; None where it has a problem."""
        if row.text is not None:
            text = tokenizers.whole_text(self.tokenizer, row.text)
            return text, [(0, len(text))]
        try:
            return self._marked_conversation(self.conversation(row.messages), row)
        except ValueError as error:
            problems.add(f"row {row.number}", str(error))
            return None

    def _marked_conversation(self, messages: list[Message], row: Row) -> tuple[str, list[Span]]:
        chat_template.require(self.template)
        text, spans = self._rendered(messages, spans=self._is_marked, tools=row.tools)
        check_calls(messages, text)
        if row.unmask:
            return text, [(self._end_of_system(text, messages, row.tools), len(text))]
        if not self._is_marked:
            answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
            counted = answers[-1:] if self._completion_only else answers
            return text, [self._turn(text, messages, place, row.tools) for place in counted]
        return text, spans[-1:] if self._completion_only else spans

    def _end_of_system(self, text: str, messages: list[Message], tools: Tools) -> int:
        """Where the first message that is not the system's begins: another one there changes the text from there on."""
        place = next((at for at, message in enumerate(messages) if message["role"] != "system"), len(messages) - 1)
        changed = messages[place] | {"content": f"{MASK_OPEN}{messages[place]['content']}"}
        return _shared_length(text, self.render([*messages[:place], changed, *messages[place + 1 :]], tools=tools))

    def _turn(self, text: str, messages: list[Message], place: int, tools: Tools) -> Span:
        """The span of one assistant's turn in the rendered conversation, its end of turn included."""
        until = self.render(messages[: place + 1], tools=tools)
        begin = self.render(messages[:place], add_generation_prompt=True, tools=tools) if place else None
        before = self._beginning(until) if begin is None else begin
        # Some templates write more behind the last turn, such as an end of text.
        shared = _shared_length(text, until)
        if not text.startswith(before) or self._end_text not in text[len(before) : shared]:
            raise Refused(
                Reason.CHAT_TEMPLATE_INVALID,
                f"the chat template writes message {place + 1} of a conversation otherwise when more follows, "
                f"so what the assistant writes cannot be told: {_MARK_IT}",
            )
        return len(before), shared

    def _beginning(self, text: str) -> str:
        """What a conversation that the assistant begins starts with; many templates cannot say it without a message."""
        try:
            header = self.render([], add_generation_prompt=True)
        except ValueError:
            return ""
        return header if text.startswith(header) else ""

    def _example(self, row: Row, ids: list[int], offsets: list[Span], spans: list[Span]) -> Example:
        trained = bytearray(len(ids))
        for start, end in spans:
            inside = [place for place, (first, last) in enumerate(offsets) if first < end and last > start]
            for place in inside[: self._length_of_turn([ids[place] for place in inside], row)]:
                trained[place] = 1
        if trained:
            trained[0] = 0
        return Example(row.number, array("i", ids), trained)

    def _length_of_turn(self, ids: list[int], row: Row) -> int:
        """Tokens of a turn up to its end of turn: what a template writes behind that is never generated."""
        return len(ids) if row.text is not None or row.unmask else self.length_of_turn(ids)

    def length_of_turn(self, ids: Sequence[int]) -> int:
        """Tokens up to the last end of turn, all where there is none."""
        ends = [place for place, token in enumerate(ids) if token == self.end_of_turn[0]]
        return ends[-1] + 1 if ends else len(ids)

    def _end_of_turn(self) -> tuple[int, ...]:
        """Tokens that end an answer, found by rendering a conversation."""
        try:
            text, spans = self._rendered(_SAMPLE, spans=self._is_marked)
        except ValueError as error:
            raise Refused(
                Reason.CHAT_TEMPLATE_INVALID, f"{error}: it must take a user's and an assistant's turn"
            ) from error
        content = str(_SAMPLE[-1]["content"])
        if content not in text:
            raise Refused(Reason.CHAT_TEMPLATE_INVALID, "the chat template leaves out what the assistant says")
        start = text.rindex(content) + len(content)
        token = self._single_end(text[start:])
        if self._is_marked:
            _check_end_is_marked(text, spans, start, self.tokenizer.decode([token]))
        return tuple(dict.fromkeys([token, *tokenizers.end_of_text(self.tokenizer)]))

    def _single_end(self, suffix: str) -> int:
        ids: list[int] = self.tokenizer(suffix, add_special_tokens=False)["input_ids"]
        added = set(self.tokenizer.added_tokens_decoder) | set(self.tokenizer.all_special_ids)
        special = [token for token in ids if token in added]
        if special or len(ids) == 1:
            return (special or ids)[0]
        written = f"writes {suffix!r}, which is {len(ids)} tokens of this base," if ids else "writes nothing"
        raise Refused(
            Reason.CHAT_TEMPLATE_INVALID,
            f"the chat template {written} at the end of an assistant's turn, so the model cannot learn to stop: "
            "end the turn with one token, such as {{ eos_token }}",
        )


def _shared_length(text: str, other: str) -> int:
    """Characters that two texts begin with in common."""
    if text.startswith(other):
        return len(other)
    pairs = zip(text, other, strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(text), len(other)))


def _check_end_is_marked(text: str, spans: list[Span], start: int, token: str) -> None:
    end = text.find(token, start) + len(token)
    if not any(first <= start and last >= end for first, last in spans):
        raise Refused(
            Reason.CHAT_TEMPLATE_INVALID,
            f"the chat template's {{% generation %}} block leaves out the end of the turn, {token!r}, so the model "
            "would not learn to stop: move {% endgeneration %} behind it",
        )


def check_calls(messages: Sequence[Message], text: str) -> None:
    """ValueError where the template leaves out what the assistant calls."""
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    names = [call.get("function", call)["name"] for call in calls]
    missing = next((name for name in names if name not in text), None)
    if missing is not None:
        raise ValueError(f"the chat template leaves out the call of {missing!r}: give one that writes tool_calls")
