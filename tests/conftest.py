"""What every test may ask for. Clusters are started by the suites that need them, and removed at their end."""

import re
from collections.abc import Iterator

import pytest
from tests.live import Access, Namespace


@pytest.fixture
def namespace(access: Access, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the suite's cluster for one test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    made = Namespace(access, f"{name}-{abs(hash(request.node.nodeid)) % 10**6}")
    made.create()
    yield made
    made.remove()
