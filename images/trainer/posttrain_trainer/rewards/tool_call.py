"""The reward tool_call: whether an answer calls the tools that the gold answer calls, in its order."""

import json
import re
from collections.abc import Mapping
from typing import Any

from posttrain_trainer.rewards import json_answer

OPEN, CLOSE = "<tool_call>", "</tool_call>"
"""What stands around {"name": ..., "arguments": {...}} where a model calls."""
_TAGGED = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def score(answer: str, gold: str) -> float:
    """1 where the calls are the same, else 0; ValueError where the gold answer holds none."""
    wanted = calls(gold)
    try:
        return float(calls(answer) == wanted)
    except ValueError:
        return 0.0


def said(message: Mapping[str, Any]) -> str:
    """What an assistant's message says, its calls as most chat templates write them."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or []]
    written = [
        f"{OPEN}\n{json.dumps({'name': one['name'], 'arguments': one.get('arguments', {})})}\n{CLOSE}"
        for one in functions
    ]
    return "\n".join(filter(None, [str(message["content"]).strip(), *written]))


def calls(text: str) -> list[str]:
    """The calls in a text, each as JSON of one form; ValueError says why it holds none."""
    tagged = _TAGGED.findall(text)
    if text.count(OPEN) != len(tagged):
        raise ValueError("a call does not end")
    values = [json_answer.read(part) for part in tagged] if tagged else _listed(json_answer.read(text))
    if not values:
        raise ValueError("no call")
    return [_call(value) for value in values]


def _listed(value: Any) -> list[Any]:
    """OpenAI's tool_calls, alone or in their message; or one call."""
    value = value["tool_calls"] if isinstance(value, dict) and "tool_calls" in value else value
    return value if isinstance(value, list) else [value]


def _call(value: Any) -> str:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError('a call is written as {"name": ..., "arguments": {...}}')
    arguments = function.get("arguments", {})
    arguments = json_answer.read(arguments) if isinstance(arguments, str) else arguments
    return json.dumps([function["name"], arguments], sort_keys=True)
