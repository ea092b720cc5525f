"""Which prompts are asked next: pass after pass over the data, without those that teach nothing if so wished."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from posttrain_api.v1alpha1.methods import Curriculum
from posttrain_trainer.examples import Prompt
from posttrain_trainer.rl.solved import Outcome


@dataclass
class _Record:
    """What became of one prompt so far."""

    outcome: Outcome | None = None
    """The latest."""
    times: int = 0
    """How often in succession it was this."""
    pause: int = 0
    """Passes that it stays out of between two in which it is asked."""
    left: int = 0
    """Passes until it is asked again."""
    is_dropped: bool = False


class Lessons:
    """The prompts of a training in the order in which they are asked. The same seed and the same outcomes give the same
    order."""

    def __init__(self, prompts: Sequence[Prompt], *, seed: int, chosen: Curriculum | None = None) -> None:
        assert prompts, "preflight refuses data without rows to train on"
        self._prompts = prompts
        self._seed = seed
        self._chosen = chosen
        self._records = [_Record() for _ in prompts]
        self._place_of = {prompt.number: place for place, prompt in enumerate(prompts)}
        self._queue: list[int] = []
        self._num_passes = 0

    def take(self, count: int) -> list[Prompt]:
        """The next prompts, each once in a pass."""
        while len(self._queue) < count:
            self._queue += self._next_pass()
        taken, self._queue = self._queue[:count], self._queue[count:]
        return [self._prompts[place] for place in taken]

    def judged(self, prompt: Prompt, outcome: Outcome | None) -> None:
        """Take note of what became of a prompt; one that teaches nothing often enough leaves, or pauses longer."""
        if self._chosen is None:
            return
        record = self._records[self._place_of[prompt.number]]
        record.times = record.times + 1 if outcome is not None and outcome == record.outcome else int(bool(outcome))
        record.outcome = outcome
        if record.times < self._chosen.after:
            record.pause = record.left = 0
        elif self._chosen.action == "Drop":
            record.is_dropped = True
        else:
            record.pause = record.left = 2 * record.pause + 1

    @property
    def num_left_out(self) -> int:
        """Prompts that are dropped or asked more rarely."""
        return sum(record.is_dropped or record.pause > 0 for record in self._records)

    @property
    def findings(self) -> dict[str, int]:
        """How many prompts are left out because they are always or never solved."""
        left_out = [record.outcome for record in self._records if record.is_dropped or record.pause]
        counts = Counter(left_out)
        return {"always": counts["always"], "never": counts["never"], "prompts": len(self._prompts)}

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {
            "passes": self._num_passes,
            "queue": list(self._queue),
            "records": [asdict(record) for record in self._records],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another was."""
        self._num_passes, self._queue = state["passes"], list(state["queue"])
        self._records = [_Record(**record) for record in state["records"]]

    def _next_pass(self) -> list[int]:
        """The prompts of the next pass, shuffled; all of them where every one is left out."""
        self._num_passes += 1
        asked = [place for place, record in enumerate(self._records) if not record.is_dropped and not record.left]
        for record in self._records:
            record.left = max(record.left - 1, 0)
        asked = asked or list(range(len(self._prompts)))
        random.Random(f"{self._seed} {self._num_passes}").shuffle(asked)
        return asked
