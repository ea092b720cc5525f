"""The table: printed, and written between its marks in docs/benchmarks.md."""

import importlib.metadata
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.learning.proof import Change

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HEADER = ("training", "measure", "before", "after", "change", "claimed", "seeds", "seconds of CPU")
LIBRARIES = ("torch", "transformers", "trl", "peft", "lm-eval")


@dataclass(frozen=True)
class Line:
    """One measure of one training: its worst seed."""

    training: str
    worst: Change
    num_seeds: int
    cpu_seconds: float
    """Of one seed, on average, with what only this training needed before it."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As texts, in the order of HEADER."""
        found, claim = self.worst, f"{'≥' if self.worst.claim > 0 else '≤'} {self.worst.claim:+.2f}"
        numbers = (f"{found.before:.2f}", f"{found.after:.2f}", f"{found.after - found.before:+.2f}", claim)
        return (self.training, found.measure, *numbers, str(self.num_seeds), f"{self.cpu_seconds:.0f}")


def show(lines: Sequence[Line], footer: str) -> None:
    """Print the lines."""
    table = Table(*HEADER, "")
    for line in lines:
        table.add_row(*line.cells, "ok" if line.worst.margin >= 0 else "NO")
    console = Console(width=140)
    console.print(table)
    console.print(footer, highlight=False)


def write(lines: Sequence[Line], footer: str, *, section: str) -> None:
    """Replace what stands between a section's marks."""
    begin, end = (f"<!-- {section}: {place} -->" for place in ("begin", "end"))
    before, _, rest = DOCUMENT.read_text().partition(begin)
    _, _, after = rest.partition(end)
    rows = [HEADER, ("---",) * len(HEADER), *(line.cells for line in lines)]
    DOCUMENT.write_text(f"{before}{begin}\n{_markdown(rows)}\n\n{footer}\n{end}{after}")


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.monotonic(), time.process_time()

    def footer(self, libraries: Iterable[str] = LIBRARIES) -> str:
        """How long it took, and with what."""
        elapsed, cpu = (time.monotonic() - self._began) / 60, (time.process_time() - self._cpu) / 60
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
        return f"{elapsed:.0f} minutes, {cpu:.0f} minutes of CPU on {torch.get_num_threads()} cores. {versions}."


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
