"""The base model of this pod: hashed once, while the engine starts, and held against what its folder promises.

A published folder promises its content: a manifest names every file, `sha256-<digest>` names that manifest and
`base-<digest>` the model itself. Only then does readiness wait for the hash. Any other folder is taken as it is; its
digest is computed all the same, since adapters name the base that they belong to.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from posttrain_api import artifact
from posttrain_api.artifact import MANIFEST_FILE, FileEntry
from posttrain_api.conditions import Reason
from posttrain_api.server_contract import Runner
from posttrain_server import checkpoint
from posttrain_server.agent.failure import ArtifactError, Failure

BASE_FILE = "base.json"
"""On the pod's disk: what an agent before this one has found of the base."""
_NAMED = re.compile(r"(sha256|base)-([0-9a-f]{64})")
_RETRY_SECONDS = 5.0
_NUM_HASHED_AT_ONCE = 4
"""Shards of a large model: one after another they would take longer than the engine takes to start."""

log = logging.getLogger("posttrain.agent")


class Base:
    """What is known of the base. `memory` is a file of the pod's disk: a restarted agent need not hash again."""

    def __init__(self, folder: Path, *, memory: Path, retry_seconds: float = _RETRY_SECONDS) -> None:
        self._folder = folder
        self._memory = memory
        self._retry_seconds = retry_seconds
        self._refused: tuple[str, ArtifactError] | None = None
        self.digest: str | None = None
        self.runner: Runner = "generate"
        self.failure: Failure | None = None
        self.is_awaited = True
        """The pod must not be ready yet: the folder promises its content, and that was not found true."""

    async def know(self) -> None:
        """Return when the digest is known; what is wrong is looked at again when the files have changed."""
        self.is_awaited = checkpoint.manifest(self._folder) is not None or self.promise is not None
        while self.digest is None:
            try:
                digest = await asyncio.to_thread(self._checked)
                self.runner, self.failure, self.is_awaited = checkpoint.runner(self._folder), None, False
                self.digest = digest
                log.info("the base is %s", digest)
            except ArtifactError as error:
                if self.failure is None:
                    log.warning("the base is refused: %s", error)
                self.failure = Failure(error.reason, str(error))
                await asyncio.sleep(self._retry_seconds)
            except (OSError, ValueError) as error:
                log.warning("the base cannot be read: %s", error)
                await asyncio.sleep(self._retry_seconds)

    @property
    def promise(self) -> tuple[str, str] | None:
        """What the folder's name promises: sha256 or base, and a digest."""
        found = _NAMED.fullmatch(self._folder.name)
        return (found[1], f"sha256:{found[2]}") if found else None

    def _checked(self) -> str:
        """The digest of the base; ArtifactError where it is not what its folder promises."""
        paths = self._paths()
        seen = _fingerprint(paths)
        known = self._remembered(seen)
        if known:
            return known
        if self._refused and self._refused[0] == seen:
            raise self._refused[1]
        try:
            digest = self._proven(_hashed(paths))
        except ArtifactError as error:
            self._refused = (seen, error)
            raise
        self._memory.write_text(json.dumps({"seen": seen, "digest": digest}))
        return digest

    def _paths(self) -> dict[str, Path]:
        own = artifact.base_paths(self._folder)
        if checkpoint.manifest(self._folder) is None:
            return own
        return {**artifact.payload_paths(self._folder), MANIFEST_FILE: self._folder / MANIFEST_FILE}

    def _remembered(self, seen: str) -> str | None:
        """What an agent before this one has found of the same files."""
        try:
            found = json.loads(self._memory.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        digest: str = found["digest"]
        return digest if found["seen"] == seen else None

    def _proven(self, found: Mapping[str, FileEntry]) -> str:
        digest = artifact.base_digest_of(found)
        fault = next(self._faults(found, digest), None)
        if fault:
            message = f"the base was changed after it was published: {fault}; train or merge it again"
            raise ArtifactError(Reason.DIGEST_MISMATCH, message)
        return digest

    def _faults(self, found: Mapping[str, FileEntry], digest: str) -> Iterator[str]:
        manifest, name = checkpoint.manifest(self._folder), self.promise
        if name and name[0] == "sha256" and (manifest is None or manifest.digest != name[1]):
            yield f"its {MANIFEST_FILE} is not that of {self._folder.name}"
        if name and name[0] == "base" and digest != name[1]:
            yield f"it is {digest}, and its folder is {self._folder.name}"
        if manifest:
            payload = {path: entry for path, entry in found.items() if path != MANIFEST_FILE}
            yield from artifact.faults(payload, manifest)


def _fingerprint(paths: Mapping[str, Path]) -> str:
    """Changes when a file does, without reading it."""
    states = {name: path.stat() for name, path in sorted(paths.items())}
    return artifact.digest_of([[name, found.st_size, found.st_mtime_ns] for name, found in states.items()])


def _hashed(paths: Mapping[str, Path]) -> dict[str, FileEntry]:
    with ThreadPoolExecutor(_NUM_HASHED_AT_ONCE) as threads:
        return dict(zip(paths, threads.map(artifact.file_entry, paths.values()), strict=True))
