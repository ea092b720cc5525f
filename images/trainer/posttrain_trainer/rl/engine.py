"""vLLM beside the trainer: it gets the adapter of each step under a name of its own, and answers with it.

Names and folders are never used twice: vLLM keys its cache of prefixes by them. Where the engine was restarted it has
forgotten all, and is told again.
"""

import logging
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from peft import PeftModel
from urllib3.util import Retry

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME
from posttrain_trainer.refusal import Refused

Answer = tuple[list[int], list[float]]
"""Token ids with the end of turn, and the log probability of each under the distribution that it was drawn from."""

_START = Retry(total=300, backoff_factor=0.2, backoff_max=2.0, status_forcelist=[503])
"""The engine starts beside the trainer: ten minutes at most."""
_TRIES = 3
_CONCURRENCY = 32
_SECONDS_TO_LOAD = 60.0
_AS_TOKENS = {"return_token_ids": True, "logprobs": 0}


@dataclass(frozen=True)
class Asked:
    """A prompt, and how many answers to it are wanted."""

    prompt: tuple[int, ...]
    count: int
    seed: int


class Engine:
    """The rollout container of a run."""

    def __init__(self, url: str, folder: Path, *, seconds_to_answer: float = 600.0) -> None:
        """`folder` is shared with the engine, under the same path."""
        self._url = url
        self._folder = folder
        self._seconds_to_answer = seconds_to_answer
        self._pool = urllib3.PoolManager(maxsize=_CONCURRENCY, retries=False)
        # It says of each try that the engine is not there yet, for as long as the engine takes to start.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

    def answered(
        self, model: Any, prompts: Sequence[Sequence[int]], *, version: int, seed: int, sampling: Mapping[str, Any]
    ) -> list[Answer]:
        """An answer to each prompt, in token ids and in their order, by the weights of a PeftModel or of the bare base.

        The same seed and weights give the same answers. `sampling`: what a request says beside prompt and model.
        Refused where the engine does not start, or goes away again and again.
        """
        is_tuned = isinstance(model, PeftModel)
        name = f"step-{version}" if is_tuned else BASE_NAME
        counts = Counter(tuple(prompt) for prompt in prompts)
        # vLLM counts on from a request's seed for each of its answers: those of the next prompt must not be the same.
        draw = random.Random(seed)
        missing = [Asked(prompt, count, draw.getrandbits(31)) for prompt, count in counts.items()]
        found: dict[tuple[int, ...], list[Answer]] = {}
        for _ in range(_TRIES):
            known = self._known()
            if is_tuned:
                self._have(model, name, known)
            found |= self._answers(missing, {"model": name, **_AS_TOKENS, **sampling})
            missing = [asked for asked in missing if asked.prompt not in found]
            if not missing:
                return [found[tuple(prompt)].pop(0) for prompt in prompts]
        raise Refused(Reason.ENGINE_FAILED, f"{self._url}: vLLM went away {_TRIES} times in succession: see its log")

    def _have(self, model: PeftModel, name: str, known: set[str]) -> None:
        """Let the engine, which knows some adapters, know this one and no other."""
        if name not in known:
            self._save(model, name)
            body = {"lora_name": name, "lora_path": str(self._folder / name)}
            answer = self._post("/v1/load_lora_adapter", body, _SECONDS_TO_LOAD)
            if answer.status != 200:
                raise Refused(Reason.LOAD_FAILED, f"{self._url}: vLLM does not load {name}: {_start(answer)}")
        for other in known - {name}:
            self._post("/v1/unload_lora_adapter", {"lora_name": other}, _SECONDS_TO_LOAD)
            shutil.rmtree(self._folder / other, ignore_errors=True)

    def _known(self) -> set[str]:
        """Names of the adapters that are loaded; waits until the engine answers."""
        try:
            answer = self._pool.request("GET", f"{self._url}/v1/models", retries=_START, timeout=30.0)
        except urllib3.exceptions.HTTPError as error:
            raise Refused(Reason.ENGINE_FAILED, f"{self._url}: vLLM does not start: see its container's log") from error
        return {model["id"] for model in answer.json()["data"] if model.get("parent") is not None}

    def _save(self, model: PeftModel, name: str) -> None:
        """Write the adapter into the shared folder, whole or not at all."""
        draft = self._folder / f".{name}"
        for folder in (draft, self._folder / name):
            shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(draft, save_embedding_layers=False)
        draft.rename(self._folder / name)

    def _answers(self, asked: Sequence[Asked], settings: Mapping[str, Any]) -> dict[tuple[int, ...], list[Answer]]:
        """Prompt -> its answers; left out where the engine went away, or has forgotten the adapter."""
        with ThreadPoolExecutor(max_workers=_CONCURRENCY) as threads:
            found = threads.map(lambda one: self._answer(one, settings), asked)
            return {one.prompt: answers for one, answers in zip(asked, found, strict=True) if answers}

    def _answer(self, asked: Asked, settings: Mapping[str, Any]) -> list[Answer]:
        body = {"prompt": list(asked.prompt), "n": asked.count, "seed": asked.seed, **settings}
        try:
            answer = self._post("/v1/completions", body, self._seconds_to_answer)
        except urllib3.exceptions.HTTPError:
            return []
        if answer.status in (404, 500, 503):
            return []
        if answer.status != 200:
            raise Refused(Reason.ENGINE_FAILED, f"{self._url}: vLLM refuses a prompt: {_start(answer)}")
        choices = sorted(answer.json()["choices"], key=lambda choice: int(choice["index"]))
        return [(choice["token_ids"], choice["logprobs"]["token_logprobs"]) for choice in choices]

    def _post(self, path: str, body: Mapping[str, Any], seconds: float) -> Any:
        return self._pool.request("POST", f"{self._url}{path}", json=body, timeout=seconds)


def _start(answer: Any) -> str:
    return str(answer.data[:500].decode(errors="replace"))
