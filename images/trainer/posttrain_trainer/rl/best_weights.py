"""The weights that have answered best so far: what a training that is stopped gives back."""

import statistics
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GENERATIONS = 5
"""The best single generation is the one with the easiest prompts."""
_MOST_TIMES = 50
"""So often the weights are written at most: of a model that is tuned whole they are gigabytes."""


class BestWeights:
    """A copy, in a temporary file, of what is trained in a model; GENERATIONS generations of answers are judged
    together, and the latest of their weights are kept."""

    def __init__(self) -> None:
        self.step: int | None = None
        """Optimizer steps that the best weights have done; None while there are none."""
        self.value = float("-inf")
        """What they reached."""
        self._latest: deque[float] = deque(maxlen=GENERATIONS)
        self._written_at = float("-inf")
        self._folder = tempfile.TemporaryDirectory(prefix="posttrain-best-")
        self._path = Path(self._folder.name) / "weights.safetensors"

    def answered(self, model: Any, value: float, *, step: int, total_steps: int) -> None:
        """The model, after so many steps of all, has given answers of this value: higher is better."""
        self._latest.append(value)
        reached = statistics.fmean(self._latest)
        is_due = step - self._written_at >= max(total_steps // _MOST_TIMES, 1)
        if len(self._latest) == GENERATIONS and reached > self.value and is_due:
            save_file({name: weight.detach().cpu().contiguous() for name, weight in _moving(model)}, self._path)
            self.value, self.step, self._written_at = reached, step, step

    def give_back(self, model: Any) -> bool:
        """Put them into the model and forget them; False where there are none."""
        if self.step is None:
            return False
        kept = load_file(self._path)
        with torch.no_grad():
            for name, weight in _moving(model):
                weight.copy_(kept[name])
        self._folder.cleanup()
        return True


def _moving(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
