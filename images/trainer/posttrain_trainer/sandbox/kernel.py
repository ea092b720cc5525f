"""System calls that Python has no name for."""

import ctypes
import os
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_KEEPCAPS, _SET_NO_NEW_PRIVS = 1, 4, 8, 38
_SET_CHILD_SUBREAPER, _CAP_AMBIENT, _CAP_AMBIENT_RAISE = 36, 47, 2
_CAPABILITY_VERSION = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
DAC_READ_SEARCH = 2
"""The capability to read files whatever their mode; Landlock confines it all the same."""


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """What a system call returns; OSError where it fails."""
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    found: int = _LIBC.syscall(ctypes.c_long(number), *given)
    return _checked(found)


def prctl(option: int, *arguments: int) -> int:
    """What prctl returns; OSError where it fails."""
    rest = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_LIBC.prctl(ctypes.c_int(option), *rest))


def die_with_parent(signal_number: int) -> None:
    """Have this signal sent when the parent ends. A change of user undoes it."""
    prctl(_SET_PDEATHSIG, signal_number)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may look into this one: ptrace, /proc/PID/mem, /proc/PID/fd."""
    prctl(_SET_DUMPABLE, int(dumpable))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(_SET_CHILD_SUBREAPER, 1)


def gain_nothing() -> None:
    """No program that is run from now on gives more rights than there are."""
    prctl(_SET_NO_NEW_PRIVS, 1)


def become(uid: int, machine: str, *, reading: bool) -> None:
    """Root becomes another user for good; `reading`: it may go on reading any file, and nothing else."""
    os.setgroups([])
    prctl(_SET_KEEPCAPS, int(reading))
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if not reading:
        return
    bit = 1 << DAC_READ_SEARCH
    syscall(_CAPSET[machine], struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", bit, bit, bit, 0, 0, 0))
    prctl(_CAP_AMBIENT, _CAP_AMBIENT_RAISE, DAC_READ_SEARCH)


def _checked(found: int) -> int:
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found
