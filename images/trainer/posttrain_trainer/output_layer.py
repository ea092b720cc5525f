"""The output layer, the largest of a small model, on the tokens that are learned and on no others."""

from collections.abc import Iterator
from contextlib import contextmanager

from trl.trainer import utils


@contextmanager
def on_learned_tokens() -> Iterator[None]:
    """TRL computes logits only where there is a label, on the CPU too.

    TRL itself does so with Triton only: elsewhere it computes them for every token, for devices that would compile each
    new shape, and it has no setting. A CPU compiles nothing, and most tokens of a conversation are not learned.
    """
    before = utils._use_triton
    utils._use_triton = lambda _device: True
    try:
        yield
    finally:
        utils._use_triton = before
