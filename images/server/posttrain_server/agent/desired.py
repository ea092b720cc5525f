"""Which list of adapters counts: the newest by arrival, whether posted or from the mounted file.

The operator posts each list and also writes it into a ConfigMap, which the kubelet refreshes up to a minute later. So a
file counts when its content changes, unless it is the echo of a list that was posted a while ago and replaced since.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from posttrain_api.model import Model
from posttrain_api.server_contract import DesiredAdapters
from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME, AdapterName

ECHO_SECONDS = 180.0
"""Longer than the kubelet takes to refresh a mounted ConfigMap."""
SAVED_FILE = "desired.json"

_name = TypeAdapter(AdapterName)


class SavedList(Model):
    """What lies on the pod's disk, for an agent that is started again."""

    adapters: DesiredAdapters
    """The list that counts."""
    file_digest: str | None = None
    """Digest of the mounted list at that time."""


@dataclass(frozen=True)
class Desired:
    """The list that counts, and what is needed to judge the next one."""

    current: DesiredAdapters | None = None
    file_digest: str | None = None
    posted: tuple[tuple[str, float], ...] = ()
    """Digests of the lists posted lately, with their times."""

    def after_post(self, given: DesiredAdapters, *, now: float) -> "Desired":
        """A posted list always counts."""
        lately = tuple(entry for entry in self.posted if now - entry[1] < ECHO_SECONDS)
        return replace(self, current=given, posted=(*lately, (given.digest, now)))

    def after_file(self, found: DesiredAdapters, *, now: float) -> "Desired":
        """A mounted list counts when it changed and is no echo."""
        if found.digest == self.file_digest:
            return self
        echo = any(digest == found.digest and now - time < ECHO_SECONDS for digest, time in self.posted)
        return replace(self, file_digest=found.digest, current=self.current if echo else found)


def parse(body: bytes) -> DesiredAdapters:
    """A list as JSON; ValueError says what is wrong with it."""
    try:
        given = DesiredAdapters.model_validate_json(body)
        names = [_name.validate_python(adapter.name) for adapter in given.adapters]
    except ValidationError as error:
        raise ValueError(str(error)) from error
    if BASE_NAME in names:
        raise ValueError(f"{BASE_NAME} is the name of the base model")
    _refuse_repetition(names)
    return given


def _refuse_repetition(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two adapters are called {name}")
        seen.add(name)


def load(folder: Path) -> Desired:
    """The list that lay on the disk, or none."""
    path = folder / SAVED_FILE
    if not path.is_file():
        return Desired()
    saved = SavedList.model_validate_json(path.read_bytes())
    return Desired(current=saved.adapters, file_digest=saved.file_digest)


def save(desired: Desired, folder: Path) -> None:
    """Keep the list on the pod's disk."""
    if desired.current is None:
        return
    saved = SavedList(adapters=desired.current, file_digest=desired.file_digest)
    incoming = folder / f".{SAVED_FILE}"
    incoming.write_text(saved.model_dump_json(by_alias=True, exclude_none=True))
    incoming.rename(folder / SAVED_FILE)
