"""What one call of foreign code may use."""

import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from posttrain_trainer.sandbox import processes

MEBI = 1 << 20
MAX_PROCESSES = 64
"""Processes and threads that a call may have at once."""
MAX_FILE_BYTES = 64 * MEBI
MAX_DISK_BYTES = 256 * MEBI
"""What it may write into its folder."""
MAX_OPEN_FILES = 256
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    seconds: float = 60.0
    """Wall-clock time."""
    memory_bytes: int = 2048 * MEBI
    """Memory of all its processes together."""
    network: bool = False
    """It may open connections."""
    is_session: bool = False
    """It answers many messages, each of which may take so long."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The limits of a request, no more memory than this container has left for a call."""
        return replace(cls(**given), memory_bytes=min(given["memory_bytes"], _container_bytes()))

    def to_json(self) -> dict[str, Any]:
        """As a request carries them."""
        return asdict(self)

    @property
    def memory(self) -> str:
        """The memory in words."""
        return f"{self.memory_bytes / MEBI:,.0f} MiB"


def impose(limits: Limits, uid: int) -> None:
    """Set the limits of this process and of those that it starts. The number of processes counts those that the user
    has already."""
    # The warden watches the clock: this ends what outlives it, and must not end threads that share the work.
    cores = os.cpu_count() or 1
    seconds = resource.RLIM_INFINITY if limits.is_session else cores * int(limits.seconds + 2)
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        # Libraries reserve far more addresses than they use: what they use is RLIMIT_DATA.
        resource.RLIMIT_AS: 4 * limits.memory_bytes,
        resource.RLIMIT_DATA: limits.memory_bytes,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_NPROC: processes.num_tasks(uid) + MAX_PROCESSES,
    }
    for which, value in wanted.items():
        _, most = resource.getrlimit(which)
        least = value if resource.RLIM_INFINITY in (most, value) else min(value, most)
        resource.setrlimit(which, (least, least))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _container_bytes() -> int:
    """Three quarters of what the container may use: the rest is the server's."""
    for path in _CONTAINER_LIMITS:
        try:
            found = path.read_text().strip()
        except OSError:
            continue
        if found.isdecimal():
            return int(found) * 3 // 4
    return 1 << 62
