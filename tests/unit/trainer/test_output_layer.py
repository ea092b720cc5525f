"""Logits are computed where something is learned, and the training is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer.test_micro_batches import trainer
from trl.trainer import utils

from posttrain_trainer import output_layer

METHODS = ["sft", "dpo"]


class Spy:
    """Stands before TRL's function and notes how many tokens it gets."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._own = utils._ChunkedLogProbFunction.apply

    def apply(self, hidden: torch.Tensor, *rest: Any) -> Any:
        self.tokens.append(hidden.shape[0])
        return self._own(hidden, *rest)


def stepped(base: Path, folder: Path, method: str) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Loss and gradients of one step, and the learned tokens in it."""
    training = trainer(base, folder, method)
    training.create_optimizer_and_scheduler(1)
    training.current_gradient_accumulation_steps = 1
    batch = next(iter(training.get_train_dataloader()))
    loss = training.training_step(training.model, batch)
    learned = sum(int((part["labels"][:, 1:] != -100).sum()) for part in batch["parts"]) if method == "sft" else 0
    found = {name: weights.grad for name, weights in training.model.named_parameters() if weights.grad is not None}
    return loss, found, learned


@pytest.mark.parametrize("method", METHODS)
def test_fewer_logits_and_the_same_gradient(
    base: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere, here = Spy(), Spy()
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", everywhere)
    loss, gradients, _ = stepped(base, tmp_path, method)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", here)
    with output_layer.on_learned_tokens():
        same_loss, same_gradients, learned = stepped(base, tmp_path, method)

    torch.testing.assert_close(same_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-4, atol=1e-6)
    assert 0 < sum(here.tokens) < sum(everywhere.tokens)
    assert method == "dpo" or sum(here.tokens) == learned
