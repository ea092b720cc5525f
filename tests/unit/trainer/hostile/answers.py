"""Rewards whose answers attack: what they return, forge or raise."""

import builtins
import gc
import json
import os
import signal
import sys
import types


def returns_nan():
    return [1.0, float("nan")]


def returns_infinity():
    return [float("inf"), 0]


def returns_too_large_a_number():
    return [10**400, 0]


def returns_text():
    return [1.0, "abc"]


def returns_too_few():
    return [1.0]


def returns_one_number():
    return 1.0


def returns_millions():
    return [1.0] * 12_500_000


def answers(body, length=None):
    """Write a message of one's own wherever the runner may wait for its answer."""
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, (length or len(body)).to_bytes(8, "big") + body)
        except OSError:
            continue


def forges_nonsense():
    answers(b"[" * 100_000)
    os._exit(0)


def forges_text():
    answers(b'{"scores": [true, "1"]}')
    os._exit(0)


def forges_nan():
    answers(b'{"scores": [NaN, 1e999]}')
    os._exit(0)


def forges_a_gigabyte():
    answers(b"1", length=1 << 30)
    signal.pause()


def patches_its_caller():
    def forged(*_, **__):
        raise ValueError("mine")

    json.dumps = json.loads = forged
    for module in list(sys.modules.values()):
        if "posttrain" in getattr(module, "__name__", ""):
            vars(module).clear()
    for found in gc.get_objects():
        if isinstance(found, types.FunctionType) and "sandbox" in found.__code__.co_filename:
            found.__code__ = forged.__code__
    builtins.float = builtins.len = builtins.isinstance = forged
    return [9.0, 9.0]


def raises_what_cannot_be_printed():
    class Mine(Exception):
        def __str__(self):
            raise self

    raise Mine


def raises_many_lines():
    raise ValueError("a\x1b[31m\n" * 100_000)
