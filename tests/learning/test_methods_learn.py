"""The methods that learn from data move a number on rows that they never saw: the cut of `make bench-learning`.

What is measured, how and what is claimed stands in bench/learning. One seed; it takes the tiny model that `make setup`
made.
"""

import os
import typing

import pytest

# As the trainer itself does: threads that spin take six times as long beside other work. It is read with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.learning import cases, proof
from bench.learning.trainings import Trainings

from posttrain_api.v1alpha1.methods import RL, Method

CUT = (
    "sft, lora",
    "dpo",
    "simpo",
    "orpo",
    "kto",
    "reward",
    "distill",
    "bestOf",
    "sft, on what bestOf kept",
    "merge",
    "osft, second task",
)
SEED = 42


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """What is trained once for all: starts, teachers and adapters to merge."""
    return Trainings(tmp_path_factory.mktemp("trainings"))


def test_the_cut_trains_every_method_that_learns_from_data() -> None:
    assert {cases.named(name).method for name in CUT} == set(typing.get_args(Method)) - RL


@pytest.mark.parametrize("name", CUT)
def test_a_held_out_number_moves_as_claimed(name: str, trainings: Trainings) -> None:
    changes = proof.changes(cases.named(name), SEED, trainings)
    assert changes, "nothing is claimed"
    assert [str(change) for change in changes if change.margin < 0] == []
