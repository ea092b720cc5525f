"""Adapters of other runs, and whether they belong together: by manifests and bytes, without a tensor library.

Preflight asks before a GPU is taken, merging asks again before it believes them.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from posttrain_api.artifact import MANIFEST_FILE, Manifest, base_digest, differences
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, Source
from posttrain_trainer.base import Base
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused


def verified(folder: Path, location: str, digest: str) -> Manifest:
    """The manifest of the LoRA adapter in a folder; Refused where its bytes are not those of the digest."""
    try:
        found = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except FileNotFoundError:
        raise Refused(Reason.ADAPTER_NOT_FOUND, f"{location}: there is no {MANIFEST_FILE}: train it again") from None
    except ValidationError as error:
        raise Refused(Reason.DIGEST_MISMATCH, f"{location}: {MANIFEST_FILE} is damaged: train it again") from error
    if found.digest != digest:
        raise Refused(Reason.DIGEST_MISMATCH, f"{location}: holds {found.digest}, not {digest}: train it again")
    for difference in differences(folder, found.files):
        raise Refused(Reason.DIGEST_MISMATCH, f"{location}: {difference}: train it again")
    if found.kind != "lora":
        raise Refused(Reason.UNSUPPORTED_ADAPTER, f"{location}: is of kind {found.kind}: only lora can be merged")
    return found


def check_base(folder: Path, location: str, adapter: Manifest) -> None:
    """Refused where the folder does not hold the base that an adapter was trained on."""
    try:
        digest = base_digest(folder)
    except ValueError as error:
        raise Refused(Reason.MODEL_NOT_FOUND, str(error)) from error
    if digest != adapter.base.digest:
        raise Refused(
            Reason.BASE_MISMATCH,
            f"{location}: is {digest}, and the adapter was trained on {adapter.base.digest}: put that model there",
        )


def check(config: RunConfig, places: Places, base: Base) -> None:
    """Refused where the adapters of a merge are not whole and of this base, or its rank is more than a layer has."""
    if config.recipe.merge is not None:
        _check_rank(config.recipe.merge.rank, base, _of_one_base(config, places))


def _of_one_base(config: RunConfig, places: Places) -> list[Manifest]:
    """The manifests of a merge's adapters; Refused where one is damaged or was trained on another base."""
    sources = to_merge(config)
    found = [verified(places.path(source.uri), source.uri, source.digest) for source in sources]
    for source, manifest in zip(sources[1:], found[1:], strict=True):
        _check_same_base(sources[0], found[0], source, manifest)
    check_base(places.path(config.base_uri), config.base_uri, found[0])
    return found


def to_merge(config: RunConfig) -> list[Source]:
    """The results that a merge combines, in the recipe's order."""
    assert config.recipe.merge is not None
    return [config.sources[f"merge.runs.{place}"] for place in range(len(config.recipe.merge.runs))]


def _check_same_base(first: Source, its: Manifest, other: Source, found: Manifest) -> None:
    if found.base.digest != its.base.digest:
        raise Refused(
            Reason.ADAPTERS_DIFFER,
            f"merge.runs: {first.run} was trained on {its.base.uri} ({its.base.digest[:19]}) and {other.run} on "
            f"{found.base.uri} ({found.base.digest[:19]}): only adapters of one base can be combined",
        )


def _check_rank(rank: int | None, base: Base, found: Sequence[Manifest]) -> None:
    if rank is not None:
        names = sorted({name for manifest in found for name in manifest.target_modules})
        base.check_rank("merge.rank", rank, names)
