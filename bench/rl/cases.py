"""The table's rows: a method on a task, and the least that its success on held-out prompts is claimed to gain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.rl import tasks
from bench.rl.tasks import Task

LORA = {"lora": {"rank": 16, "alpha": 32}}
MAX_ANSWER_TOKENS = 10


@dataclass(frozen=True, eq=False)
class Case:
    """One training from the start."""

    method: str
    task: Task
    claim: float
    steps: int
    learning_rate: float = 2e-3
    block: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the method that are not its defaults."""

    @property
    def name(self) -> str:
        """As the table's first column has it."""
        return f"{self.method}, {self.task.name}"


CASES = (
    Case("grpo", tasks.ARITHMETIC, 0.4, 60),
    Case("rloo", tasks.ARITHMETIC, 0.4, 60),
    Case("ppo", tasks.ARITHMETIC, 0.4, 60),
    Case("grpo", tasks.PACKAGE, 0.2, 60, learning_rate=1e-3),
    Case("rloo", tasks.PACKAGE, 0.2, 60, learning_rate=1e-3),
    Case("ppo", tasks.PACKAGE, 0.2, 60, learning_rate=1e-3),
)


def of(task: Task) -> list[Case]:
    """Each method on one task."""
    return [case for case in CASES if case.task is task]
