"""What a row of each method may hold, and how it becomes a Row."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

from posttrain_api.v1alpha1.environment import Environment
from posttrain_api.v1alpha1.methods import PAIRS, RL
from posttrain_trainer.data import Message, Parse, Row, named_type
from posttrain_trainer.rewards import forms, tool_call

ROLES = ("system", "user", "assistant", "tool")
_FORMATS = 'write "messages", or "prompt" and "completion", or "instruction" and "output", or "text"'
_PAIR = 'write "prompt", "chosen" and "rejected"'
_LABELLED = 'write "prompt", "completion" and "label"'
_PROMPT = (
    'write "prompt", and the right answer as "completion" or "gold" where something is scored by it, or a conversation '
    "as for sft, whose last answer is the right one"
)
_QUESTIONS = frozenset({"messages", "Messages", "instruction"})
"""Columns of a row of sft that ask something."""
_KNOWN = frozenset({"prompt", "completion", "gold", "tools", "messages", "Messages"})
"""Columns that no scorer is given by their names."""
_LABELS = {"true": True, "false": False, "1": True, "0": False}


def of(method: str, environment: Environment | None = None) -> Parse:
    """How a row of a method is read; `environment` says how a right answer is written, and what is scored."""
    if method in PAIRS:
        return pair
    if method in (*RL, "distill", "bestOf"):
        return partial(prompt, environment=environment)
    return labelled if method == "kto" else partial(conversation, environment=environment)


def conversation(number: int, value: Mapping[str, Any], environment: Environment | None = None) -> Row:
    """A row of sft; with what its rewards need where the environment has any."""
    for column, parse in _CONVERSATIONS.items():
        if value.get(column) is not None:
            row = parse(number, _answered(value, environment))
            is_scored = environment is not None and environment.rewards
            return replace(row, gold=_said(value, "gold"), columns=_columns(value)) if is_scored else row
    columns = ", ".join(f'"{key}"' for key in value) or "no column"
    raise ValueError(f"has {columns}: {_FORMATS}")


def pair(number: int, value: Mapping[str, Any]) -> Row:
    """A row of dpo, simpo, orpo and reward."""
    _require(value, ("chosen", "rejected"), _PAIR)
    if value.get("prompt") is None:
        return _implicit(number, value)
    answers = (_answer(value, "chosen"), _answer(value, "rejected"))
    return Row(number, _prompt(value), answers=answers, tools=_tools(value))


def labelled(number: int, value: Mapping[str, Any]) -> Row:
    """A row of kto."""
    _require(value, ("prompt", "completion", "label"), _LABELLED)
    found = _LABELS.get(str(value["label"]).strip().lower())
    if found is None:
        raise ValueError(f'"label" is {json.dumps(value["label"])[:40]}: write true for a desirable answer, else false')
    return Row(number, _prompt(value), answers=(_answer(value, "completion"),), label=found, tools=_tools(value))


def prompt(number: int, value: Mapping[str, Any], environment: Environment | None = None) -> Row:
    """A row of distill, bestOf, grpo, rloo and ppo: a prompt, or a row of sft without its last answer."""
    asked, answer = (_prompt(value), None) if value.get("prompt") is not None else _asked(number, value)
    gold, whole = _said(value, "gold"), _said(value, "completion") or answer
    right = forms.right(gold, whole, environment)
    return Row(number, asked, gold=gold or whole, right=right, tools=_tools(value), columns=_columns(value))


def _columns(value: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that scorers are given by their names."""
    return {name: content for name, content in value.items() if name not in _KNOWN}


def _answered(value: Mapping[str, Any], environment: Environment | None) -> Mapping[str, Any]:
    """A prompt with its gold answer as one with its completion."""
    if value.get("completion") is not None or value.get("gold") is None:
        return value
    return {**value, "completion": forms.right(_said(value, "gold"), None, environment)}


def _asked(number: int, value: Mapping[str, Any]) -> tuple[list[Message], str | None]:
    """A conversation up to the assistant's last answer, and that answer."""
    if not _QUESTIONS & value.keys():
        raise ValueError(f'"prompt" is missing: {_PROMPT}')
    messages = conversation(number, value).messages
    if messages[-1]["role"] != "assistant":
        return messages, None
    if len(messages) == 1:
        raise ValueError(f"the conversation is an answer without a question: {_PROMPT}")
    return messages[:-1], tool_call.said(messages[-1])


def _require(value: Mapping[str, Any], columns: tuple[str, ...], formats: str) -> None:
    missing = next((column for column in columns if value.get(column) is None), None)
    if missing is not None:
        raise ValueError(f'"{missing}" is missing: {formats}')


def _implicit(number: int, value: Mapping[str, Any]) -> Row:
    """What two conversations begin with is the prompt; each keeps at least its last message."""
    if not (isinstance(value["chosen"], list) and isinstance(value["rejected"], list)):
        raise ValueError('"prompt" is missing: write it as text, or "chosen" and "rejected" as whole conversations')
    chosen, rejected = _messages("chosen", value["chosen"]), _messages("rejected", value["rejected"])
    pairs = zip(chosen[:-1], rejected[:-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not shared:
        raise ValueError('"chosen" and "rejected" begin with nothing in common: write "prompt"')
    answers = _checked(chosen[shared:], "chosen"), _checked(rejected[shared:], "rejected")
    return Row(number, chosen[:shared], answers=answers, tools=_tools(value))


def _prompt(value: Mapping[str, Any]) -> list[Message]:
    if not isinstance(value["prompt"], list):
        return [{"role": "user", "content": _text(value, "prompt")}]
    messages = _messages("prompt", value["prompt"])
    if messages[-1]["role"] in ("assistant", "system"):
        raise ValueError('"prompt" ends with what the assistant or the system says: end it with a user\'s message')
    return messages


def _answer(value: Mapping[str, Any], column: str) -> list[Message]:
    if not isinstance(value[column], list):
        return [{"role": "assistant", "content": _text(value, column)}]
    return _checked(_messages(column, value[column]), column)


def _checked(messages: list[Message], column: str) -> list[Message]:
    if messages[0]["role"] != "assistant" or messages[-1]["role"] != "assistant":
        raise ValueError(f'"{column}" must begin, after the prompt, and end with what the assistant says')
    return messages


def _said(value: Mapping[str, Any], column: str) -> str | None:
    """An answer as text, None where there is none; a number, an object or a list of calls is written as JSON."""
    answer = value.get(column)
    if answer is None:
        return None
    is_data = isinstance(answer, list) and all(isinstance(item, dict) and "role" not in item for item in answer)
    if is_data or isinstance(answer, int | float | dict):
        return json.dumps(answer, ensure_ascii=False)
    return tool_call.said(_answer(value, column)[-1])


def _from_messages(number: int, value: Mapping[str, Any]) -> Row:
    messages = _messages("messages", value.get("messages", value.get("Messages")))
    unmask = value.get("unmask") or False
    if not isinstance(unmask, bool):
        raise ValueError(f'"unmask" is {named_type(unmask)}: write true or false')
    return Row(number, messages, unmask=unmask, tools=_tools(value))


def _messages(column: str, messages: Any) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'"{column}" is {named_type(messages)}: write [{{"role": ..., "content": ...}}, ...]')
    return [_message(f"message {place}", message) for place, message in enumerate(messages, start=1)]


def _message(place: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f'{place} is {named_type(message)}: write {{"role": ..., "content": ...}}')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"{place} has the role {json.dumps(role)}: write one of {', '.join(ROLES)}")
    if role == "assistant" and message.get("tool_calls"):
        calls = [_tool_call(place, call) for call in _list(f'{place}: "tool_calls"', message["tool_calls"])]
        message = message | {"content": content or "", "tool_calls": calls}
    elif not isinstance(content, str):
        raise ValueError(f'{place}: "content" is {named_type(content)}: write text')
    _check_whole(f'{place}: "content"', str(message["content"]))
    return message


def _tool_call(place: str, call: Any) -> dict[str, Any]:
    """A call whose arguments are an object: chat templates write them as JSON themselves."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f'{place}: a tool call has no name: write {{"function": {{"name": ..., "arguments": ...}}}}')
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        function = function | {"arguments": json.loads(arguments) if arguments.lstrip().startswith("{") else arguments}
    return call | {"function": function} if "function" in call else function


def _tools(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    return None if value.get("tools") is None else _list('"tools"', value["tools"])


def _list(place: str, value: Any) -> list[Any]:
    """A list of objects, or the same as JSON in a text."""
    found = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{place} is {named_type(found)}: write a list of objects")
    return found


def _from_prompt(number: int, value: Mapping[str, Any]) -> Row:
    _require(value, ("prompt", "completion"), _FORMATS)
    messages = [*_prompt(value), *_answer(value, "completion")]
    return Row(number, messages, tools=_tools(value), unmask=value.get("unmask") is True)


def _from_alpaca(number: int, value: Mapping[str, Any]) -> Row:
    _require(value, ("instruction", "output"), _FORMATS)
    instruction, output = _text(value, "instruction"), _text(value, "output")
    extra = _text(value, "input") if value.get("input") is not None else ""
    question = f"{instruction}\n\n{extra}" if extra else instruction
    return Row(number, [{"role": "user", "content": question}, {"role": "assistant", "content": output}])


def _from_text(number: int, value: Mapping[str, Any]) -> Row:
    return Row(number, text=_text(value, "text"))


def _text(value: Mapping[str, Any], column: str) -> str:
    text = value[column]
    if not isinstance(text, str):
        raise ValueError(f'"{column}" is {named_type(text)}: write text')
    _check_whole(f'"{column}"', text)
    return text


def _check_whole(place: str, text: str) -> None:
    """JSON can name half of a UTF-16 pair, which no tokenizer takes."""
    half = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None) if not text.isascii() else None
    if half is not None:
        raise ValueError(f"{place} holds half a character, \\u{ord(half):x}: write UTF-8")


_CONVERSATIONS: Mapping[str, Callable[[int, Mapping[str, Any]], Row]] = {
    "messages": _from_messages,
    "Messages": _from_messages,
    "prompt": _from_prompt,
    "completion": _from_prompt,
    "instruction": _from_alpaca,
    "output": _from_alpaca,
    "text": _from_text,
}
"""The column that tells a format of sft -> how a row of it is read, in order of precedence."""
