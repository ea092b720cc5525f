"""grpo, rloo and ppo learn: success on held-out prompts rises. The cut of `make bench-rl`, one task with one seed.

What is measured, how and what is claimed stands in bench/rl. The start is made where it is not in the cache.
"""

import os
from pathlib import Path

import pytest

# As the trainer itself does: threads that spin take six times as long beside other work. It is read with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.rl import cases, proof, start, tasks
from bench.rl.cases import Case
from examples.demo.base import model_folder
from tests.cluster import layout

from posttrain_api.v1alpha1.methods import RL

CUT = cases.of(tasks.ARITHMETIC)
SEED = 42


@pytest.fixture(scope="module")
def start_folder() -> Path:
    """The model that every method starts from."""
    return start.folder(model_folder(layout.cache()))


def test_the_cut_trains_every_method_that_learns_from_rewards() -> None:
    assert {case.method for case in CUT} == RL


def test_no_prompt_is_both_learned_and_held_out() -> None:
    every = [tasks.ARITHMETIC, tasks.PACKAGE]
    held_out = {question.expression for task in every for question in task.held_out()}
    learned = {question.expression for task in every for question in task.training()}
    assert len(held_out) == len(every) * tasks.NUM_HELD_OUT
    assert held_out.isdisjoint(learned)


@pytest.mark.parametrize("case", CUT, ids=lambda case: case.method)
def test_success_on_held_out_prompts_rises_as_claimed(case: Case, start_folder: Path, tmp_path: Path) -> None:
    change = proof.change(case, SEED, start=start_folder, scratch=tmp_path)
    assert change.claim > 0
    assert change.margin >= 0, str(change)
