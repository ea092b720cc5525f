"""What a kubelet changes on the machine outside its own folders: noted before the first, put back after the last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cluster import layout, slots

# Set by every kubelet at start, for the whole kernel.
_SETTINGS = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_SYSCTL = Path("/proc/sys")
# The socket folder of device plugins is below it, whatever the kubelet's own root folder is.
_KUBELET = Path("/var/lib/kubelet")


def note() -> None:
    """Write down the settings as they are, unless a cluster that runs has done so."""
    with slots.locked("machine"):
        if not _note_file().exists():
            values = {name: (_SYSCTL / name).read_text().strip() for name in _SETTINGS if (_SYSCTL / name).exists()}
            _note_file().write_text(json.dumps({"settings": values, "had_kubelet": _KUBELET.exists()}))


def put_back() -> None:
    """Put the settings back if no cluster is left."""
    with slots.locked("machine"):
        if not _note_file().exists() or slots.find_all():
            return
        noted = json.loads(_note_file().read_text())
        for name, value in noted["settings"].items():
            if (_SYSCTL / name).read_text().strip() != value:
                (_SYSCTL / name).write_text(value)
        if not noted["had_kubelet"]:
            shutil.rmtree(_KUBELET, ignore_errors=True)
        _note_file().unlink()


def _note_file() -> Path:
    return layout.run_folder() / ".machine"
