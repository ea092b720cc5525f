"""The table: printed, and written between its marks in docs/benchmarks.md."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.learning.proof import Change

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- learning: begin -->", "<!-- learning: end -->"
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


def write(lines: Sequence[Line], footer: str) -> None:
    """Replace what stands between the marks."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [HEADER, ("---",) * len(HEADER), *(line.cells for line in lines)]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{_markdown(rows)}\n\n{footer}\n{END}{after}")


def footer(*, elapsed: float, cpu: float, threads: int) -> str:
    """How long it took, and with what."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return f"{elapsed / 60:.0f} minutes, {cpu / 60:.0f} minutes of CPU on {threads} cores. {versions}."


def _markdown(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
