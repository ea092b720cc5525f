"""The folder that a call may write in: how much is in it, and its end."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_NAME = "posttrain-call-"
_ENTRY_BYTES = 4096
"""What a file costs at least, however short it is."""


def made() -> Path:
    """A new folder for a call of this process."""
    return Path(tempfile.mkdtemp(prefix=f"{_NAME}{os.getpid()}-"))


def remove_of(pid: int) -> None:
    """Remove the folders of a process that did not come to do it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_NAME}{pid}-*"):
        remove(folder)


def remove_left() -> None:
    """Remove the folders of processes that are no more: a server that was killed left them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_NAME}*"):
        pid = folder.name.removeprefix(_NAME).partition("-")[0]
        if not Path("/proc", pid).exists():
            remove(folder)


def is_within(folder: Path, most: int) -> bool:
    """Whether what lies there takes at most so many bytes. A folder that cannot be read counts as too much."""
    used = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    used += _ENTRY_BYTES + entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if used > most:
                        return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def remove(folder: Path) -> None:
    """Remove a folder, however it was left: unreadable, or deeper than Python goes."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwX", str(folder)], ["rm", "-rf", str(folder)]):
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
