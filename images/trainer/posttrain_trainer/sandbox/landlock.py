"""Landlock: a process gives up files, TCP and signals for good, without any privilege.

See https://docs.kernel.org/userspace-api/landlock.html. The kernel's header is linux/landlock.h.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from posttrain_trainer.sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_FIRST_VERSION = (1 << 13) - 1
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
TCP_SINCE, SCOPES_SINCE = 4, 6
"""Versions of Landlock that know TCP, and processes outside."""


@dataclass(frozen=True)
class Rules:
    """What is left to a process."""

    readable: Iterable[Path]
    """Folders and files to read and run; those that are not there are passed over."""
    writable: Iterable[Path]
    """Folders to do anything in, and devices to write to."""
    tcp: bool
    """It may connect and listen."""


def version() -> int:
    """The kernel's version of Landlock; 0: it has none, or has it turned off."""
    try:
        return kernel.syscall(_CREATE, None, 0, _VERSION_FLAG)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def restrict(rules: Rules, version: int) -> None:
    """Give up everything but the rules, as far as this version of Landlock knows it; needs no_new_privs."""
    if version == 0:
        return
    files = _files(version)
    ruleset = kernel.syscall(_CREATE, _attributes(rules, version), _size(version), 0)
    try:
        for path in rules.readable:
            _allow(ruleset, path, _READ & files)
        for path in rules.writable:
            _allow(ruleset, path, files)
        kernel.syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _attributes(rules: Rules, version: int) -> bytes:
    network = 0 if rules.tcp else _TCP
    return struct.pack("=QQQ", _files(version), network, _ABSTRACT_SOCKETS_AND_SIGNALS)[: _size(version)]


def _size(version: int) -> int:
    """Bytes of landlock_ruleset_attr that this version knows."""
    return 24 if version >= SCOPES_SINCE else 16 if version >= TCP_SINCE else 8


def _files(version: int) -> int:
    """The rights on files that this version knows."""
    since = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEVICE}
    return _FIRST_VERSION | sum(right for first, right in since.items() if version >= first)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            rights &= _OF_FILES
        kernel.syscall(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, found), 0)
    finally:
        os.close(found)
