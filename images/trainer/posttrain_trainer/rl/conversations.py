"""Answers of several turns: the model calls tools of the user's, reads what they say, and goes on.

What a tool says is a part of the answer that the model did not write: it is read, and nothing is learned from it. The
tokens are those that were drawn: no turn is written as text and read again.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from posttrain_trainer import answers
from posttrain_trainer.answers import Answer
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.rewards import json_answer, tool_call
from posttrain_trainer.rewards import tools as named_tools
from posttrain_trainer.rewards.apart import CallFailed
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.rewards.session import ToolMistaken, Tools
from posttrain_trainer.rl.samples import Sample
from posttrain_trainer.template import ChatFormat

Ask = Callable[[Sequence[Sequence[int]], int], Sequence[tuple[list[int], list[float]]]]
"""Prompts in token ids, and the tokens that an answer may have -> the tokens of an answer to each, with the log
probability of each token."""


def answered(ask: Ask, job: Job, prompts: Sequence[Prompt], *, room: int, version: int = 0) -> list[Sample]:
    """One answer to each prompt, of at most `room` tokens with all that tools say; without text and score where the
    tools' process went away."""
    named = job.recipe.environment.tools
    assert named is not None
    with named_tools.of(named, job.places, job.scorer.apart) as tools:
        try:
            found = _begun(tools, job.task.chat, prompts)
            for turn in range(named.max_turns + 1):
                _take_turn(ask, tools, job.task.chat, found, room=room, may_call=turn < named.max_turns)
            earned = tools.rewards() or [None] * len(found)
        except CallFailed as error:
            return [_void(prompt, RewardFailed(str(error)), version) for prompt in prompts]
    return [one.sample(job.task.chat, version, score) for one, score in zip(found, earned, strict=True)]


def greedy(model: Any, job: Job, prompts: Sequence[Prompt], *, room: int, between: Callable[[], None]) -> list[Answer]:
    """The model's greedy answer to each prompt; RewardFailed where the tools' process went away."""
    chat = job.task.chat

    def ask(rows: Sequence[Sequence[int]], left: int) -> list[tuple[list[int], list[float]]]:
        given = answers.generated(model, chat, rows, room=left, between=between)
        turns = [[*one.token_ids, *(chat.end_of_turn[:1] if one.has_ended else ())] for one in given]
        return [(turn, [0.0] * len(turn)) for turn in turns]

    found = answered(ask, job, prompts, room=room)
    lost = next((sample.lost for sample in found if sample.lost), None)
    if lost is not None:
        raise lost
    return [Answer(sample.text.strip(), list(sample.token_ids), sample.has_ended) for sample in found]


@dataclass
class _Conversation:
    """An answer while it is written."""

    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    """The tokens of its latest turn."""
    is_open: bool = True
    has_ended: bool = False

    def hear(self, tokens: Sequence[int]) -> None:
        """Add what a tool said."""
        self.tokens += tokens
        self.scores += [0.0] * len(tokens)
        self.own += [0] * len(tokens)

    def say(self, tokens: list[int], scores: list[float], *, has_ended: bool) -> None:
        """Add a turn of the model."""
        self.tokens += tokens
        self.scores += scores
        self.own += [1] * len(tokens)
        self.turn, self.has_ended = tokens, has_ended

    def sample(self, chat: ChatFormat, version: int, earned: float | None) -> Sample:
        text = chat.answer(self.turn)
        return Sample(self.prompt, text, self.tokens, self.scores, self.has_ended, self.own, version, earned)


def _begun(tools: Tools, chat: ChatFormat, prompts: Sequence[Prompt]) -> list[_Conversation]:
    described = tools.describe()
    said = tools.begin([{"gold": prompt.gold, **prompt.columns} for prompt in prompts])
    return [_Conversation(_told(chat, prompt, described, text)) for prompt, text in zip(prompts, said, strict=True)]


def _told(chat: ChatFormat, prompt: Prompt, described: list[dict[str, Any]], said: str | None) -> Prompt:
    """A prompt with the tools, and with what an instance says before it begins behind the last message."""
    messages = prompt.messages
    if said is not None:
        messages = [*messages[:-1], messages[-1] | {"content": f"{messages[-1]['content']}{said}"}]
    return replace(prompt, messages=messages, token_ids=array("i", chat.question(messages, described)))


def _take_turn(
    ask: Ask, tools: Tools, chat: ChatFormat, found: Sequence[_Conversation], *, room: int, may_call: bool
) -> None:
    """Let the model go on where it may, and its tools say what it called them for."""
    going_on = [(place, one) for place, one in enumerate(found) if one.is_open]
    if not going_on:
        return
    most = room - min(len(one.tokens) for _, one in going_on)
    drawn = ask([[*one.prompt.token_ids, *one.tokens] for _, one in going_on], most)
    for (place, one), (tokens, scores) in zip(going_on, drawn, strict=True):
        _write(chat, one, tokens, scores, room)
        heard = _heard(tools, chat, place, one) if one.has_ended and may_call else []
        one.is_open = bool(heard) and len(one.tokens) + len(heard) < room
        if one.is_open:
            one.hear(heard)


def _write(chat: ChatFormat, one: _Conversation, tokens: list[int], scores: list[float], room: int) -> None:
    left = room - len(one.tokens)
    end = chat.end_of_answer(tokens)
    length = min(len(tokens) if end is None else end + 1, left)
    one.say(tokens[:length], scores[:length], has_ended=end is not None and end < left)


def _heard(tools: Tools, chat: ChatFormat, instance: int, one: _Conversation) -> list[int]:
    """The tokens behind a turn that calls tools, up to where the assistant goes on; none where it calls none."""
    said = _called(tools, instance, chat.answer(one.turn))
    if said is None:
        return []
    found: list[int] = chat.tokenizer(named_tools.suffix(chat, said), add_special_tokens=False)["input_ids"]
    return found


def _called(tools: Tools, instance: int, text: str) -> str | None:
    """What the tools say that a turn calls, line by line; None where it calls none."""
    calls = [part.partition(tool_call.CLOSE)[0] for part in text.split(tool_call.OPEN)[1:]]
    return "\n".join(_said(tools, instance, call) for call in calls) if calls else None


def _said(tools: Tools, instance: int, call: str) -> str:
    """What a tool says to a call; where that does not work, why, for the model to read."""
    try:
        value = json_answer.read(call)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return 'error: write a call as {"name": ..., "arguments": {...}}'
        return tools.call(instance, value["name"], value.get("arguments") or {})
    except (ToolMistaken, ValueError) as error:
        return f"error: {error}"


def _void(prompt: Prompt, why: RewardFailed, version: int) -> Sample:
    """An answer that was lost: one token, and no score."""
    return Sample(prompt, "", prompt.token_ids[-1:], [0.0], has_ended=False, own=[0], version=version, lost=why)
