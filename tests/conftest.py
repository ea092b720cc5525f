"""What every test may ask for. Clusters are started by the suites that need them, and removed at their end."""

import importlib.util
import os
import re
from collections.abc import Iterator
from functools import cache

import pytest
from tests.live import Access, Namespace

# No test fetches anything from the hub; it is read when the hub's client is imported, and saves it its retries.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def namespace(access: Access, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the suite's cluster for one test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    made = Namespace(access, f"{name}-{abs(hash(request.node.nodeid)) % 10**6}")
    made.create()
    yield made
    made.remove()


_NOT_RUN = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what needs a GPU where there is none: it is listed at the end, and counts as nothing."""
    missing = [item for item in items if item.get_closest_marker("gpu") and not _has_gpu()]
    config.stash[_NOT_RUN] = [item.nodeid for item in missing]
    if missing:
        items[:] = [item for item in items if item not in missing]
        config.hook.pytest_deselected(items=missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List what was not run."""
    for name in config.stash.get(_NOT_RUN, []):
        terminalreporter.write_line(f"NOT RUN, needs a GPU: {name}")


@cache
def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
