"""The losses of the preference methods, against a computation by hand."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.unit.trainer.test_methods import job, log_probability, pairs, tuned

from posttrain_api.v1alpha1.methods import DpoLoss
from posttrain_trainer.methods import dpo, orpo, simpo


def loss_of(trainer: Any, **columns: float) -> float:
    """Loss of all rows at once, with some columns replaced."""
    rows = [row | columns for row in trainer.train_dataset]
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, trainer._prepare_inputs(trainer.data_collator(rows))))


def test_dpo_at_beta_zero_is_ln_2_swapping_raises_it_and_it_stays_finite(base: Path, tmp_path: Path) -> None:
    given = job(base, tmp_path, pairs(4), method="dpo")
    trainer = dpo.trainer(tuned(given), given, str(tmp_path))
    prefers = loss_of(trainer, ref_chosen_logps=-500.0, ref_rejected_logps=0.0)
    swapped = loss_of(trainer, ref_chosen_logps=0.0, ref_rejected_logps=-500.0)
    assert 0 <= prefers < math.log(2) < swapped
    assert math.isfinite(swapped)
    trainer.beta = 0.0
    assert loss_of(trainer, ref_chosen_logps=-500.0) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("name", get_args(DpoLoss))
def test_trl_knows_every_loss_that_we_name(base: Path, tmp_path: Path, name: str) -> None:
    settings = {"loss": [name], "labelSmoothing": 0.1 if name in ("exo_pair", "robust") else 0.0}
    given = job(base, tmp_path, pairs(4), method="dpo", dpo=settings)
    trainer = dpo.trainer(tuned(given), given, str(tmp_path))
    trainer.args.max_steps = 1
    assert math.isfinite(trainer.train().training_loss)


def test_simpo_and_orpo_equal_a_computation_by_hand(base: Path, tmp_path: Path) -> None:
    given = job(base, tmp_path, pairs(1), method="simpo", simpo={"beta": 2.0, "gamma": 0.5})
    start = tuned(given)
    pair = pairs(1)[0]
    better = log_probability(start, pair.prompt, pair.chosen) / len(pair.chosen)
    worse = log_probability(start, pair.prompt, pair.rejected) / len(pair.rejected)
    expected = math.log1p(math.exp(-(2.0 * (better - worse) - 0.5)))
    assert loss_of(simpo.trainer(start, given, str(tmp_path))) == pytest.approx(expected, abs=1e-4)

    given = job(base, tmp_path, pairs(1), method="orpo", orpo={"beta": 0.3})
    odds = (better - math.log1p(-math.exp(better))) - (worse - math.log1p(-math.exp(worse)))
    whole = [*pair.prompt, *pair.chosen]
    likelihood = -log_probability(start, whole[:1], whole[1:]) / (len(whole) - 1)
    expected = likelihood + 0.3 * math.log1p(math.exp(-odds))
    assert loss_of(orpo.trainer(start, given, str(tmp_path))) == pytest.approx(expected, abs=1e-4)
