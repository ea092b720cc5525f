"""How a model answers while it learns: the one door to all modes of rollout.

`transformers` answers with the weights that are trained, in the trainer's own process; `server` with vLLM beside it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from posttrain_api.v1alpha1.methods import Grpo, Ppo, Rloo
from posttrain_trainer import batching
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.rl import conversations, merged
from posttrain_trainer.rl.conversations import Ask
from posttrain_trainer.rl.engine import Answer
from posttrain_trainer.rl.samples import Sample
from posttrain_trainer.template import ChatFormat


def settings(job: Job) -> Grpo | Rloo | Ppo:
    """The block of the method, which says how it answers."""
    found = job.recipe.answering
    assert found is not None, f"{job.recipe.method} does not learn from its own answers"
    return found


def answered(
    model: Any,
    job: Job,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    version: int = 0,
    between: Callable[[], None] = lambda: None,
) -> list[Sample]:
    """One answer to each prompt, in their order; a prompt may be there several times.

    The same seed gives the same answers of the same weights. `version`: optimizer steps that the weights have done.
    `between` is called after each part.
    """
    chosen, chat = settings(job), job.task.chat
    room = chosen.max_completion_tokens
    with _asking(model, job, seed=seed, version=version, between=between) as ask:
        if job.recipe.environment.tools is not None:
            return conversations.answered(ask, job, prompts, room=room, version=version)
        given = ask([prompt.token_ids for prompt in prompts], room)
    return [sample(chat, prompt, *answer, version) for prompt, answer in zip(prompts, given, strict=True)]


@contextmanager
def _asking(model: Any, job: Job, *, seed: int, version: int, between: Callable[[], None]) -> Iterator[Ask]:
    """Who answers: the vLLM beside the trainer, which gets these weights first, or the model itself."""
    if settings(job).rollout.mode == "server":
        draw = random.Random(seed)

        def ask(prompts: Sequence[Sequence[int]], room: int) -> Sequence[Answer]:
            sampling, own = _sampling(job, room), draw.getrandbits(63)
            return job.engine.answered(model, prompts, version=version, seed=own, sampling=sampling)

        yield ask
    else:
        with _answering(model, job, seed) as base:
            yield lambda prompts, room: _drawn(base, job, prompts, room, between)


def _sampling(job: Job, room: int) -> dict[str, Any]:
    return {
        "temperature": settings(job).temperature,
        "top_p": 1.0,
        "top_k": 0,
        "max_tokens": room,
        "stop_token_ids": list(job.task.chat.end_of_turn),
        "ignore_eos": True,  # an answer ends where its turn ends, whatever the base ends texts with
    }


def _drawn(
    model: Any, job: Job, prompts: Sequence[Sequence[int]], room: int, between: Callable[[], None]
) -> list[Answer]:
    found: dict[int, Answer] = {}
    parts = batching.batches(list(enumerate(prompts)), lambda item: len(item[1]) + room, batching.MAX_TOKENS)
    for part in parts:
        given = _generated(model, job.task.chat, [list(prompt) for _, prompt in part], settings(job), room)
        found |= {place: answer for (place, _), answer in zip(part, given, strict=True)}
        between()
    return [found[place] for place in range(len(prompts))]


@contextmanager
def _answering(model: Any, job: Job, seed: int) -> Iterator[Any]:
    """What generates, ready to: in evaluation mode, which has no dropout and, with gradient checkpointing too, a cache
    of keys and values."""
    was_training = model.training
    model.eval()
    device, dtype = job.precision.device, getattr(torch, job.precision.dtype)
    try:
        with (
            merged.merged(model),
            torch.inference_mode(),
            torch.random.fork_rng(),
            # Whole weights are float32 in memory, and trained in the recipe's precision.
            torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32),
        ):
            torch.manual_seed(seed)
            yield model.get_base_model() if isinstance(model, PeftModel) else model
    finally:
        model.train(was_training)


def _generated(
    model: Any, chat: ChatFormat, prompts: Sequence[list[int]], chosen: Grpo | Rloo | Ppo, room: int
) -> list[Answer]:
    """The tokens of an answer to each prompt, padded behind their end, and their log probabilities."""
    pad = chat.tokenizer.pad_token_id
    ids = batching.padded_left(prompts, pad, model.device)
    attention = batching.padded_left(batching.ones(prompts), 0, model.device)
    # What is left open here would be the base's own.
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        repetition_penalty=1.0,
        max_new_tokens=room,
        pad_token_id=pad,
        eos_token_id=list(chat.end_of_turn),
    )
    drawn = _Drawn(chosen.temperature)
    output = model.generate(input_ids=ids, attention_mask=attention, logits_processor=LogitsProcessorList([drawn]))
    answers = output[:, ids.shape[1] :]
    return list(zip(answers.tolist(), drawn.log_probabilities(answers).tolist(), strict=True))


class _Drawn(LogitsProcessor):
    """Applies the temperature, and remembers how likely each token was that was drawn: of all steps together the
    distributions would fill the memory, so each is kept until the next step tells what was drawn from it."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._latest: torch.Tensor | None = None
        self._found: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._latest is not None:
            self._look_up(input_ids[:, -1:])
        scores = scores / self._temperature
        self._latest = scores.log_softmax(-1)
        return scores

    def log_probabilities(self, answers: torch.Tensor) -> torch.Tensor:
        """Of each token of the answers, shape [answers, longest]; of no use behind an answer's end."""
        self._look_up(answers[:, -1:])
        return torch.cat(self._found, dim=1)

    def _look_up(self, tokens: torch.Tensor) -> None:
        assert self._latest is not None
        self._found.append(self._latest.gather(1, tokens))


def sample(chat: ChatFormat, prompt: Prompt, tokens: list[int], scores: list[float], version: int) -> Sample:
    """An answer up to its end of turn; `scores`: the log probability of each token."""
    end = chat.end_of_answer(tokens)
    length = len(tokens) if end is None else end + 1
    return Sample(
        prompt,
        chat.answer(tokens),
        tokens[:length],
        scores[:length],
        has_ended=end is not None,
        version=version,
    )
