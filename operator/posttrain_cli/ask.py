"""One question to several models at once, through the OpenAI client."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionMessageParam

from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME
from posttrain_cli.answers import Answer, Asked
from posttrain_cli.failure import Failure, one_line

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 300.0
NO_KEY = "none"
"""The client wants a key; one of the environment is meant for another server."""

Turn = ChatCompletionMessageParam


@dataclass(frozen=True)
class Sampling:
    """How answers are made; a comparison wants the likeliest ones."""

    temperature: float = 0.0
    max_tokens: int = 256


@dataclass
class Column:
    """One model and its own conversation."""

    model: str
    turns: list[Turn] = field(default_factory=list)


def models(url: str) -> list[str]:
    """Every model that a server names, `base` first; Failure where it does not answer."""

    async def names() -> list[str]:
        async with _client(url) as client:
            return [model.id async for model in client.models.list()]

    with _failures(url):
        return sorted(asyncio.run(names()), key=lambda name: (name != BASE_NAME, name))


def all_at_once(url: str, columns: Iterable[Column], asked: Asked, *, sampling: Sampling) -> None:
    """Put a question to every model; each answer grows in its place. Failure where there is no server."""

    async def gathered() -> None:
        async with _client(url) as client:
            pairs = zip(columns, asked.answers, strict=True)
            await asyncio.gather(
                *(_answer(client, column, answer, asked.question, sampling) for column, answer in pairs)
            )

    with _failures(url):
        asyncio.run(gathered())


async def _answer(
    client: openai.AsyncOpenAI, column: Column, answer: Answer, question: str, sampling: Sampling
) -> None:
    """Let one model answer; a question that it could not answer is no part of its conversation."""
    turn: Turn = {"role": "user", "content": question}
    try:
        stream = await client.chat.completions.create(
            model=column.model,
            messages=[*column.turns, turn],
            stream=True,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
        )
        async for chunk in stream:
            answer.text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    except openai.APIConnectionError:
        raise
    except openai.APIError as problem:
        answer.problem = _sentence(problem)
        return
    answer.is_done = True
    column.turns += [turn, {"role": "assistant", "content": answer.text}]


def _client(url: str) -> openai.AsyncOpenAI:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise Failure(f"{url}: write a URL such as http://127.0.0.1:8000")
    # A proxy of the environment cannot reach this machine's own ports.
    is_local = address.hostname in ("127.0.0.1", "localhost", "::1")
    timeout = openai.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    http = openai.DefaultAsyncHttpxClient(trust_env=not is_local, timeout=timeout)
    base_url = f"{url.rstrip('/').removesuffix('/v1')}/v1"
    return openai.AsyncOpenAI(base_url=base_url, api_key=NO_KEY, http_client=http, timeout=timeout)


def _sentence(problem: openai.APIError) -> str:
    """Status and sentence of the server; a proxy before it may answer in any form."""
    said = problem.body.get("message") if isinstance(problem.body, dict) else None
    if isinstance(problem, openai.APIStatusError):
        return f"{problem.status_code}: {one_line(str(said or problem.response.reason_phrase))[:500]}"
    return one_line(str(said or problem.message))[:500]


@contextmanager
def _failures(url: str) -> Iterator[None]:
    try:
        yield
    except openai.APIConnectionError as problem:
        raise Failure(f"no answer from {url}: {one_line(str(problem.__cause__ or problem))}") from problem
    except openai.APIError as problem:
        raise Failure(f"{url} answered {_sentence(problem)}") from problem
