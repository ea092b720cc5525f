"""The machine-wide register of clusters: which name owns which slot and folder.

A record is written before the first thing of a cluster is made, so that `down` finds all of it if `up` was cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import layout


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`; the kernel lets it go when the process dies."""
    layout.run_folder().mkdir(parents=True, exist_ok=True)
    with (layout.run_folder() / f".{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find(name: str) -> layout.Layout | None:
    """The recorded cluster of this name, whatever cache it was started from."""
    try:
        record = json.loads(_record(name).read_text())
    except FileNotFoundError:
        return None
    return layout.Layout(name=name, slot=record["slot"], cache=Path(record["cache"]))


def find_all() -> list[layout.Layout]:
    return [found for path in sorted(layout.run_folder().glob("*.json")) if (found := find(path.stem))]


def claim(name: str) -> layout.Layout:
    """The cluster's record, made with the lowest free slot if there is none."""
    with locked("slots"):
        found = find(name)
        if found is None:
            taken = {other.slot for other in find_all()}
            slot = next((slot for slot in range(layout.NUM_SLOTS) if slot not in taken), None)
            if slot is None:
                raise ValueError(f"all {layout.NUM_SLOTS} slots are taken by {', '.join(o.name for o in find_all())}")
            found = layout.Layout(name=name, slot=slot, cache=layout.cache())
            _write(found)
    if found.cache != layout.cache():
        raise ValueError(
            f"cluster {name!r} belongs to the cache {found.cache}; take another name, or end it from there"
        )
    return found


def release(cluster: layout.Layout) -> None:
    _record(cluster.name).unlink(missing_ok=True)


def _record(name: str) -> Path:
    return layout.run_folder() / f"{name}.json"


def _write(cluster: layout.Layout) -> None:
    path = _record(cluster.name)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"slot": cluster.slot, "cache": str(cluster.cache)}))
    os.replace(temporary, path)
