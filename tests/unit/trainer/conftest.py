"""What the trainer's tests share: one tiny base, made once."""

import os
from pathlib import Path

import pytest
from tests.unit.trainer import builders

from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Stop

# As the trainer itself does: threads that spin take six times as long beside other work. It is read with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny base model, which no test changes."""
    return builders.base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Claims and ConfigMaps of one test."""
    return Places(claims=tmp_path / "claims", config_maps=tmp_path / "config-maps")


@pytest.fixture
def stop() -> Stop:
    """A request to end that nobody makes."""
    return Stop()
