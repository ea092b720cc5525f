"""Rewards by HTTP: a judge is asked what an answer is worth.

The judge is somebody else's. It gets the row, the answer and its own token; it can take its time, fail, and answer
anything. A redirect is not followed: the token is for one address.
"""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from urllib3.util import Retry

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import HttpReward, Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards.failure import RewardFailed

TRIED_AGAIN = (429, 500, 502, 503, 504)
"""Statuses after which a request is sent again."""
MAX_ANSWER_BYTES = 64 << 10
_CHUNK_BYTES = 16 << 10
_MAX_REMEMBERED = 1 << 16
_BACKOFF = {"backoff_factor": 0.5, "backoff_max": 30.0, "backoff_jitter": 0.25, "retry_after_max": 120}
"""Seconds."""


class Judge:
    """Asks one judge, several answers at a time and none of them twice."""

    def __init__(self, reward: Reward, token: str | None = None) -> None:
        """The reward is one with http."""
        assert reward.http is not None
        self._http: HttpReward = reward.http
        self._timeout_seconds = reward.timeout_seconds
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(maxsize=self._http.concurrency, block=True)
        self._remembered: OrderedDict[bytes, float | None] = OrderedDict()

    def scores(self, answered: Sequence[tuple[Prompt, str]]) -> list[float | RewardFailed | None]:
        """What the judge says of each answer, or why it says nothing of use."""
        asked = [_request(prompt, answer) for prompt, answer in answered]
        unknown = [body for body in dict.fromkeys(asked) if body not in self._remembered]
        with ThreadPoolExecutor(max_workers=self._http.concurrency) as threads:
            found = dict(zip(unknown, threads.map(self._tried, unknown), strict=True))
        known = {body: self._remembered[body] for body in asked if body not in found} | found
        self._remember(found)
        return [known[body] for body in asked]

    def forget(self) -> None:
        """Ask again what was asked before."""
        self._remembered.clear()

    def _remember(self, found: dict[bytes, float | RewardFailed | None]) -> None:
        for body, score in found.items():
            if not isinstance(score, RewardFailed):
                self._remembered[body] = score
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _tried(self, body: bytes) -> float | RewardFailed | None:
        try:
            return _score(self._asked(body))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return RewardFailed(f"{_place(self._http.url)} {_problem(error)}")

    def _asked(self, body: bytes) -> bytes:
        """The judge's answer; ValueError where it is none."""
        response = self._pool.request(
            "POST",
            self._http.url,
            body=body,
            headers=self._headers,
            timeout=urllib3.Timeout(total=self._timeout_seconds),
            retries=self._retries(),
            redirect=False,
            preload_content=False,
        )
        try:
            if response.status != 200:
                raise ValueError(_status_problem(response.status))
            return b"".join(self._chunks(response))
        finally:
            # What is left unread is not waited for.
            response.close()
            response.release_conn()

    def _retries(self) -> Retry:
        """How a failed request is sent again; a status that stays is read by ourselves."""
        return Retry(
            total=self._http.retries,
            status_forcelist=TRIED_AGAIN,
            allowed_methods=None,
            raise_on_status=False,
            **_BACKOFF,
        )

    def _chunks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """What is read, byte by byte if it comes so, until the time is over."""
        until, size = time.monotonic() + self._timeout_seconds, 0
        while chunk := response.read1(_CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise ValueError(f"answered with more than {MAX_ANSWER_BYTES >> 10} KiB: it is to say the score only")
            if time.monotonic() > until:
                raise ValueError(f"did not end its answer within {self._timeout_seconds} s")
            yield chunk


def token(reward: Reward, place: int, folder: Path) -> str | None:
    """The token of environment.rewards.<place>, None where it needs none; Refused where it cannot be read or sent."""
    if reward.http is None or reward.http.token is None:
        return None
    where = f"environment.rewards.{place}.http.token"
    try:
        found = (folder / str(place) / "token").read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise Refused(
            Reason.REWARD_INVALID, f"{where}: {folder / str(place) / 'token'} cannot be read: write the token there"
        ) from None
    if not (found.isascii() and found.isprintable() and found and " " not in found):
        raise Refused(Reason.REWARD_INVALID, f"{where}: the Secret's value is no token: write one line of ASCII")
    return found


def _request(prompt: Prompt, answer: str) -> bytes:
    asked = {**prompt.columns, "prompt": prompt.messages, "completion": answer, "gold": prompt.gold}
    return json.dumps(asked, sort_keys=True).encode()


def _score(content: bytes) -> float | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"answered {_shown(content)}, which is no JSON") from None
    score = found.get("score", "nothing") if isinstance(found, dict) else "nothing"
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f'answered {_shown(content)}: write {{"score": <number or null>}}')
    return float(score)


def _shown(content: bytes) -> str:
    return repr(content[:80].decode(errors="replace"))


def _place(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _status_problem(status: int) -> str:
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed, write the address that it leads to"
    if status in (401, 403):
        return f"answered {status}: give it the right http.token"
    return f"answered {status}"


def _problem(error: Exception) -> str:
    """A sentence without addresses, which may hold what is secret, and without headers."""
    reason = getattr(error, "reason", None) or error
    match reason:
        case urllib3.exceptions.NewConnectionError():
            return "could not be reached"
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.ReadTimeoutError():
            return "did not answer within timeoutSeconds"
        case urllib3.exceptions.SSLError():
            return f"could not be trusted: {reason}"
        case urllib3.exceptions.HTTPError() | OSError():
            return f"broke off: {type(reason).__name__}"
    return str(error)
