"""A client's request, before the engine sees it: whom it asks, which fields go on, what the adapter adds."""

import json
from dataclasses import dataclass
from typing import Any

from posttrain_server.exchange import BASE_NAME, Route, RouteTable, engine_name
from posttrain_server.gateway import asgi, errors
from posttrain_server.gateway.doors import Door

_SAMPLING = """
    frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream stream_options temperature
    top_p user use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids include_stop_str_in_output
    ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side
    prompt_logprobs logprob_token_ids allowed_token_ids bad_words add_special_tokens response_format structured_outputs
    return_tokens_as_token_ids return_token_ids repetition_detection thinking_token_budget stream_interval echo
    cache_salt model
"""
_CHAT = """
    messages top_logprobs max_completion_tokens tools tool_choice reasoning_effort include_reasoning
    parallel_tool_calls add_generation_prompt continue_final_message documents chat_template_kwargs
"""
_CLASSIFY = """
    input messages add_special_tokens add_generation_prompt continue_final_message chat_template_kwargs
    truncate_prompt_tokens truncation_side cache_salt user model
"""
FIELDS: dict[Door, frozenset[str]] = {
    "chat": frozenset((_SAMPLING + _CHAT).split()),
    "completions": frozenset((_SAMPLING + " prompt suffix").split()),
    "classify": frozenset(_CLASSIFY.split()),
}
"""Fields that go on to the engine, an allowlist too. Others are dropped, as OpenAI's clients send some that vLLM does
not know. Left out on purpose: chat_template (the adapter's own is used), prompt_embeds (tensors from outside),
use_activation (scores are raw), kv_transfer_params and ec_transfer_params (other engines' caches), vllm_xargs,
priority, request_id and session_id (they reach into the engine's queue), media_io_kwargs and mm_processor_kwargs.
cache_salt only parts a client's own cache."""

_CHOICES = """
    chat_template tokenize conversation messages tools documents tokenizer_kwargs return_dict return_tensors padding
    truncation max_length return_assistant_tokens_mask
"""
_TEMPLATE_CHOICES = frozenset(_CHOICES.split())
"""Template arguments that would change which template is used, or on what; a template's own switches are left."""


@dataclass(frozen=True)
class Question:
    """A request that may pass."""

    name: str
    """As the client calls the model."""
    engine_name: str
    """As the engine calls it."""
    body: bytes
    """What the engine gets."""
    wants_usage: bool
    """Whether the client asked for a last chunk with the usage."""


def parse(body: bytes) -> dict[str, Any]:
    """The request's JSON object; Refusal where it is none."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise errors.invalid_body(f"The request is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise errors.invalid_body("The request is no JSON object.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def resolve(name: Any, table: RouteTable | None) -> Route | None:
    """The version that a client's name means, None for the base; Refusal where it means nothing here."""
    if name is None or name == "":
        raise errors.missing_model()
    if not isinstance(name, str):
        raise errors.Refusal(400, "`model` is no text.", "invalid_type", "model")
    if name == BASE_NAME:
        return None
    if table is None:
        raise errors.not_ready(name)
    if name in table.adapters:
        return table.adapters[name]
    if name in table.waiting:
        raise errors.not_ready(name)
    raise errors.unknown_model(name)


def question(door: Door, fields: dict[str, Any], table: RouteTable | None) -> Question:
    """What the engine is asked in place of the client's fields; Refusal where it may not pass."""
    name = fields.get("model")
    route = resolve(name, table)
    assert isinstance(name, str)
    target = engine_name(name, route.digest) if route else name
    shaped = {key: value for key, value in fields.items() if key in FIELDS[door]}
    if door in ("chat", "classify"):
        shaped = _with_template(shaped, route)
    shaped = _with_usage(shaped) | {"model": target}
    return Question(name, target, asgi.dump(shaped), wants_usage(fields))


def _with_template(fields: dict[str, Any], route: Route | None) -> dict[str, Any]:
    arguments = fields.pop("chat_template_kwargs", None)
    if isinstance(arguments, dict):
        fields["chat_template_kwargs"] = {k: v for k, v in arguments.items() if k not in _TEMPLATE_CHOICES}
    if route is None:
        return fields
    if route.chat_template is not None:
        fields["chat_template"] = route.chat_template
    if route.stop_token_ids:
        fields["stop_token_ids"] = _merged_stops(fields.get("stop_token_ids"), route.stop_token_ids)
    return fields


def _merged_stops(given: Any, own: list[int]) -> Any:
    if given is None:
        return own
    if not isinstance(given, list):
        return given  # the engine refuses it in its own words
    return [*given, *(token for token in own if token not in given)]


def wants_usage(fields: dict[str, Any]) -> bool:
    """Whether a client asked for the usage of its stream."""
    options = fields.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _with_usage(fields: dict[str, Any]) -> dict[str, Any]:
    """Every stream tells its usage, for the meter; the answer leaves it out where the client did not ask."""
    options = fields.get("stream_options")
    if fields.get("stream") is not True or not isinstance(options, dict | None):
        return fields
    return fields | {"stream_options": {**(options or {}), "include_usage": True}}
