"""The pod's own copies of artifacts, by digest: copied once, proven by digest, never changed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from posttrain_api import artifact, uri
from posttrain_api.artifact import MANIFEST_FILE, Manifest
from posttrain_api.conditions import Reason
from posttrain_api.server_contract import DesiredAdapter
from posttrain_server.agent import compatibility
from posttrain_server.agent.failure import ArtifactError

CHAT_TEMPLATE_FILE = "chat_template.jinja"
_DISK_RETRY_SECONDS = 15.0


@dataclass(frozen=True)
class LocalArtifact:
    """A copy on this pod whose every byte was checked."""

    folder: Path
    manifest: Manifest
    chat_template: str | None


@dataclass(frozen=True)
class Store:
    """Where copies lie, and where originals are found."""

    folder: Path
    claims_root: Path
    retry_seconds: float = 3.0
    """How long until an artifact that is not there is looked for again."""

    def bring(self, wanted: DesiredAdapter, *, base_digest: str, max_rank: int) -> LocalArtifact:
        """Copy an artifact unless it is here, and check it in full; ArtifactError where it cannot be served."""
        target = self.folder / artifact.folder_name(wanted.digest)
        try:
            if not target.is_dir():
                self._copy(wanted, target)
            manifest = _manifest(target, wanted.digest)
            _check_bytes(target, manifest)
        except OSError as error:
            message = f"the artifact cannot be copied to the pod's disk: {error}"
            raise ArtifactError(Reason.LOAD_FAILED, message, retry_seconds=_DISK_RETRY_SECONDS) from error
        except ArtifactError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        compatibility.check(target, manifest, base_digest=base_digest, max_rank=max_rank)
        return LocalArtifact(target, manifest, _chat_template(target))

    def forget(self, digest: str) -> None:
        """Remove a copy."""
        shutil.rmtree(self.folder / artifact.folder_name(digest), ignore_errors=True)

    def digests(self) -> Iterator[str]:
        """The digests of the copies that lie here, checked or not."""
        for path in self.folder.glob("sha256-*"):
            yield path.name.replace("-", ":", 1)

    def clear_incomplete(self) -> None:
        """Remove what an interrupted copy left."""
        for path in self.folder.glob(".incoming-*"):
            shutil.rmtree(path)

    def _copy(self, wanted: DesiredAdapter, target: Path) -> None:
        source = self._source(wanted.uri)
        manifest = _manifest(source, wanted.digest)
        incoming = self.folder / f".incoming-{target.name}"
        shutil.rmtree(incoming, ignore_errors=True)
        for name in (MANIFEST_FILE, *manifest.files):
            _copy_file(source, incoming, name)
        _check_bytes(incoming, manifest)
        incoming.rename(target)

    def _source(self, location: str) -> Path:
        try:
            claim, path = uri.parse(location)
        except ValueError as error:
            raise ArtifactError(Reason.ADAPTER_NOT_FOUND, str(error)) from error
        folder = Path("/") / path if claim is None else self.claims_root / claim / path
        if not (folder / MANIFEST_FILE).is_file():
            message = f"there is no {MANIFEST_FILE} in {location}"
            raise ArtifactError(Reason.ADAPTER_NOT_FOUND, message, retry_seconds=self.retry_seconds)
        return folder


def _manifest(folder: Path, digest: str) -> Manifest:
    """The manifest in a folder, if it is the one with this digest."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{MANIFEST_FILE} is no manifest of ours: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ArtifactError(Reason.DIGEST_MISMATCH, message) from error
    if manifest.digest != digest:
        message = f"{MANIFEST_FILE} has digest {manifest.digest[:19]}, {digest[:19]} is wanted"
        raise ArtifactError(Reason.DIGEST_MISMATCH, message)
    return manifest


def _copy_file(source: Path, target: Path, name: str) -> None:
    """Copy one file that a manifest names; a missing one is left to the comparison that follows."""
    path = PurePosixPath(name)
    original = source / path
    if path.is_absolute() or ".." in path.parts or not original.resolve().is_relative_to(source.resolve()):
        raise ArtifactError(Reason.DIGEST_MISMATCH, f"{name} leads out of the artifact's folder")
    if not original.is_file():
        return
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(original, target / path)
    (target / path).chmod(0o444)


def _check_bytes(folder: Path, manifest: Manifest) -> None:
    fault = next(iter(artifact.faults(artifact.payload(folder), manifest)), None)
    if fault:
        raise ArtifactError(Reason.DIGEST_MISMATCH, fault)


def _chat_template(folder: Path) -> str | None:
    path = folder / CHAT_TEMPLATE_FILE
    return path.read_text() if path.is_file() else None
