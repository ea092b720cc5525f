"""HTTP to our own pods: the trainer's /status, the agent's /adapters. The only place that calls them.

Pods run other people's code: answers are bounded in size and time, redirects are not followed.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TypeVar

import aiohttp

from posttrain_api import server_contract, trainer_contract
from posttrain_api.model import Model
from posttrain_api.server_contract import AgentReport
from posttrain_api.trainer_contract import TrainerStatus
from posttrain_operator.actions import Tell

TIMEOUT_SECONDS = 1.5
MAX_ANSWER_BYTES = 256 * 1024
TRAINER_POLL_SECONDS = 2.0
"""A trainer is asked at most this often, so that a run's progress is written at most this often."""

Answer = TypeVar("Answer", bound=Model)


class Pods:
    """Asks our pods; None where one is not reachable or does not speak our language."""

    def __init__(self, session: aiohttp.ClientSession, *, clock: Callable[[], float] = monotonic) -> None:
        self._session = session
        self._clock = clock
        self._asked: dict[str, tuple[float, TrainerStatus | None]] = {}

    async def trainer_status(self, uid: str, address: str) -> TrainerStatus | None:
        """What the trainer in the pod with this UID and IP address does; an answer is kept for two seconds."""
        asked_at, known = self._asked.get(uid, (-TRAINER_POLL_SECONDS, None))
        if self._clock() - asked_at < TRAINER_POLL_SECONDS:
            return known
        found = await self._get(address, trainer_contract.STATUS_PORT, "/status", TrainerStatus)
        self._asked[uid] = (self._clock(), found or known)
        return found or known

    def forget(self, uids: Iterable[str]) -> None:
        """Drop what is kept of pods that are over."""
        for uid in uids:
            self._asked.pop(uid, None)

    async def agent_report(self, address: str) -> AgentReport | None:
        """What the agent of a server pod knows."""
        return await self._get(address, server_contract.AGENT_PORT, "/adapters", AgentReport)

    async def tell(self, tells: Iterable[Tell]) -> None:
        """Send lists to agents, all at once; one that does not answer is told again at the next reconcile."""
        await asyncio.gather(*(self._tell(tell) for tell in tells))

    async def _tell(self, tell: Tell) -> bool:
        url = _url(tell.address, server_contract.AGENT_PORT, "/adapters")
        headers = {"Authorization": f"Bearer {tell.token}"}
        try:
            async with self._session.post(
                url, json=tell.desired.to_json(), headers=headers, timeout=_timeout(), allow_redirects=False
            ) as response:
                return response.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _get(self, address: str, port: int, path: str, model: type[Answer]) -> Answer | None:
        try:
            async with self._session.get(
                _url(address, port, path), timeout=_timeout(), allow_redirects=False
            ) as response:
                if response.status != 200:
                    return None
                return model.model_validate_json(await _bounded(response))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body; ValueError where it is too long."""
    found = b""
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
    return found


def _url(address: str, port: int, path: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
