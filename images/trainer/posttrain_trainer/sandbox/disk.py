"""The folder that a call may write in: how much is in it, and its end."""

import os
import shutil
import subprocess
from pathlib import Path

_ENTRY_BYTES = 4096
"""What a file costs at least, however short it is."""


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
