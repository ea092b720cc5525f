"""Tools: a user's class whose instances live for one batch of answers. To be written."""

import socket
from collections.abc import Mapping
from typing import Any

from posttrain_trainer.sandbox.call import Call, Failed


def work(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """In the child."""
    raise NotImplementedError


def answered(call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
    """In the warden."""
    raise Failed("is not there yet")
