"""Seccomp: system calls that code which is not ours has no use for are refused, without any privilege.

What Landlock cannot say: sockets that are not TCP, other processes' limits and memory, a group of its own. See
https://docs.kernel.org/userspace-api/seccomp_filter.html; the filter is a program of classic BPF.
"""

import ctypes
import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from posttrain_trainer.sandbox import kernel

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    # name: (x86_64, aarch64)
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
}
_OF_ITSELF_ONLY = {
    # the first argument is a process: 0 is the caller
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
_PRETENDED = {"setpgid": (109, 154), "setsid": (112, 157)}
"""They do nothing and say that they did: whoever starts a process stays in one group with it, which one signal ends."""
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
_OTHER_SIGNALS = {"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
_SOCKET, _CLONE, _CLONE3 = (41, 198), (56, 220), (435, 435)
_NEW_NAMESPACES = 0x7E020000
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000

Instruction = tuple[int, int, int, int]
"""Operation, how many to pass over where it holds, where it does not, and a number."""


def is_there(machine: str) -> bool:
    """Whether system calls can be refused here."""
    return machine in _ARCHITECTURES and Path("/proc/sys/kernel/seccomp").exists()


def restrict(machine: str, *, network: bool, signals: bool) -> bool:
    """Refuse what is dangerous from now on; False where the kernel or the machine has no filter. Needs no_new_privs.

    network: sockets may be opened. signals: they may be sent, as something else confines them; else to itself only.
    """
    if machine not in _ARCHITECTURES:
        return False
    instructions = program(machine, network=network, signals=signals)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    held = ctypes.create_string_buffer(code, len(code))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(held)))
    try:
        kernel.prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(described))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def program(machine: str, *, network: bool, signals: bool) -> list[Instruction]:
    """The filter for a machine's system calls."""
    of = list(_ARCHITECTURES).index(machine)
    rules = [
        *(_when(numbers[of], [_fail(errno.EPERM)]) for numbers in _REFUSED.values()),
        *(_when(numbers[of], _only(0, [0])) for numbers in _OF_ITSELF_ONLY.values()),
        *(_when(numbers[of], [_fail(0)]) for numbers in _PRETENDED.values()),
        _when(_CLONE3[of], [_fail(errno.ENOSYS)]),
        _when(_CLONE[of], _without_bits(0, _NEW_NAMESPACES)),
        _when(_SOCKET[of], _only(0, _FAMILIES if network else ())),
        *([] if signals else _own_signals(of)),
    ]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32),
        _fail(errno.EPERM),
        *itertools.chain.from_iterable(rules),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _own_signals(of: int) -> Iterable[list[Instruction]]:
    yield from (_when(numbers[of], _only(0, [0, os.getpid()])) for numbers in _SIGNALS.values())
    yield from (_when(numbers[of], [_fail(errno.EPERM)]) for numbers in _OTHER_SIGNALS.values())


def _when(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 0, len(then), number), *then]


def _only(argument: int, allowed: Sequence[int]) -> list[Instruction]:
    """Return, allowing the call where the argument is one of these."""
    load = (_LOAD, 0, 0, _ARGUMENT_AT + 8 * argument)
    tests = [(_EQUAL, len(allowed) - place, 0, value) for place, value in enumerate(allowed)]
    return [load, *tests, _fail(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _without_bits(argument: int, bits: int) -> list[Instruction]:
    """Return, allowing the call where the argument has none of the bits."""
    load = (_LOAD, 0, 0, _ARGUMENT_AT + 8 * argument)
    return [load, (_HAS_BITS, 0, 1, bits), _fail(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _fail(number: int) -> Instruction:
    return (_RETURN, 0, 0, _FAIL | number)
