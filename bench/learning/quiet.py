"""Keeps the libraries' bars and the trainer's lines apart from the table's own."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import datasets
import transformers


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """What is written to standard error meanwhile is dropped; an exception is shown after it."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
