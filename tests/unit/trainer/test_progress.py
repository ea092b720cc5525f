"""What is served while it trains: the status for the operator, metrics for Prometheus."""

import itertools
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from posttrain_api.trainer_contract import TrainerStatus
from posttrain_trainer import progress
from posttrain_trainer.progress import Progress


@pytest.fixture
def state() -> Progress:
    """A training of two steps of 4, each one second long."""
    found = Progress("double", clock=itertools.count().__next__)
    found.enter("Training")
    found.begin_training(total_steps=4)
    found.step(1, epoch=0.25, tokens=100, metrics={"loss": 2.0})
    found.step(2, epoch=0.5, tokens=250, metrics={"loss": None})
    return found


@pytest.fixture
def url(state: Progress) -> Iterator[str]:
    server = progress.serve(state, 0, address="127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_the_status_is_what_the_operator_reads(state: Progress, url: str) -> None:
    found = TrainerStatus.model_validate_json(get(f"{url}/status"))
    assert found == TrainerStatus(
        stage="Training",
        step=2,
        total_steps=4,
        eta_seconds=2.0,
        epoch=0.5,
        tokens_per_second=125.0,
        metrics={"loss": None},
        updated_at=state.status.updated_at,
    )


def test_prometheus_sees_the_same(state: Progress, url: str) -> None:
    state.evaluated("before", {"exactMatch": 0.25})
    found = {line for line in get(f"{url}/metrics").splitlines() if not line.startswith("#")}
    assert {line for line in found if "_created" not in line} == {
        'posttrain_trainer_run_info{run="double"} 1.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Loading"} 0.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Evaluating"} 0.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Training"} 1.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Sampling"} 0.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Publishing"} 0.0',
        'posttrain_trainer_stage{posttrain_trainer_stage="Done"} 0.0',
        "posttrain_trainer_step 2.0",
        "posttrain_trainer_total_steps 4.0",
        "posttrain_trainer_epoch 0.5",
        "posttrain_trainer_eta_seconds 2.0",
        "posttrain_trainer_tokens_per_second 125.0",
        'posttrain_trainer_metric{metric="loss"} NaN',
        'posttrain_trainer_evaluation{metric="exactMatch",when="before"} 0.25',
        "posttrain_trainer_tokens_total 250.0",
    }


def test_there_is_nothing_else(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{url}/")


def test_metrics_are_documented(state: Progress) -> None:
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "metrics" / "trainer.md").read_text()
    names = {sample.name for family in state.registry.collect() for sample in family.samples}
    assert {name for name in names if not name.endswith("_created") and f"`{name}`" not in text} == set()


def test_metrics_of_a_step_are_documented() -> None:
    from pathlib import Path

    from posttrain_trainer import fit

    text = (Path(__file__).parents[3] / "docs" / "metrics" / "trainer.md").read_text()
    assert {name for name in fit._METRICS.values() if f"`{name}`" not in text} == set()
