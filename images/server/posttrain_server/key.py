"""The key that agent and gateway share: 32 random bytes in a folder in memory, made anew for every pod."""

import hmac
import secrets
from pathlib import Path

KEY_BYTES = 32


def write(path: Path) -> None:
    """Write a new key; readable for the group too, since a pod's containers may differ in UID but share fsGroup."""
    path.write_bytes(secrets.token_bytes(KEY_BYTES))
    path.chmod(0o640)


def read(path: Path) -> str:
    """The key as it travels in a header, in hexadecimal; ValueError where the file holds no key."""
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path}: {len(key)} bytes are no key: it has {KEY_BYTES}")
    return key.hex()


def matches(given: bytes | str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of where they differ."""
    given_bytes = given.encode() if isinstance(given, str) else given
    return hmac.compare_digest(given_bytes, expected.encode())
