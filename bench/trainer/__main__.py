"""The trainer against `trl sft`, side by side, as a table: `python -m bench.trainer`; 1 where a claim does not hold."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.trainer import loss, sides
from bench.trainer.material import Length, Material
from bench.trainer.sides import Measured

MAX_LOSS_DIFFERENCE = 0.01
Turn = tuple[Measured, Measured]
"""Two trainings, one after the other: theirs and ours."""


class Claim(NamedTuple):
    """A number of both sides, and what must hold of the median of ours / theirs."""

    what: str
    theirs: Sequence[float]
    ours: Sequence[float]
    least: float = 0.0
    most: float = float("inf")

    @property
    def ratio(self) -> float:
        """Of two trainings that ran one after the other; the median of all."""
        return statistics.median(own / other for own, other in zip(self.ours, self.theirs, strict=True))

    @property
    def holds(self) -> bool:
        """Whether the ratio is within bounds."""
        return self.least <= self.ratio <= self.most

    def row(self) -> tuple[str, ...]:
        """As it is printed."""
        bounds = [f">= {self.least:g}"] * (self.least > 0) + [f"<= {self.most:g}"] * (self.most < float("inf"))
        medians = (f"{statistics.median(numbers):.4g}" for numbers in (self.theirs, self.ours))
        return self.what, *medians, f"{self.ratio:.2f}", " and ".join(bounds), "ok" if self.holds else "NO"


def main() -> int:
    """Train in turns and print what is claimed beside what was measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.trainer", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="of each pair of trainings (default: 3)")
    repetitions = parser.parse_args().repetitions
    with tempfile.TemporaryDirectory() as scratch:
        claims = _claims(Path(scratch), repetitions)
    table = Table("median", "trl sft", "posttrain", "ratio", "claimed", "")
    for claim in claims:
        table.add_row(*claim.row())
    Console(width=110).print(table)
    return 0 if all(claim.holds for claim in claims) else 1


def _claims(scratch: Path, repetitions: int) -> list[Claim]:
    material = Material(scratch / "material")
    even: list[Turn] = []
    ragged: list[Turn] = []
    for turn in range(repetitions):
        even.append(_turn(material, "even", scratch / f"even-{turn}"))
        ragged.append(_turn(material, "ragged", scratch / f"ragged-{turn}"))
    held_out = material.held_out("ragged")

    def losses(one: Measured) -> float:
        return loss.held_out(material.base, one.adapter, held_out)

    near = {"least": 1 - MAX_LOSS_DIFFERENCE, "most": 1 + MAX_LOSS_DIFFERENCE}
    return [
        Claim("tokens/s, equal settings, rows of one length", *_numbers(even, _speed), least=1.0),
        Claim("tokens/s, our defaults, ragged rows", *_numbers(ragged, _speed), least=1.5),
        Claim("held-out loss after ragged rows", *_numbers(ragged, losses), **near),
        Claim("seconds, start to first step", *_numbers(even, lambda one: one.first_step_seconds), most=1.0),
    ]


def _turn(material: Material, rows: Length, scratch: Path) -> Turn:
    scratch.mkdir()
    theirs, ours = sides.trl(material, rows, scratch), sides.ours(material, rows, scratch)
    if abs(theirs.tokens - ours.tokens) > 1e-3 * theirs.tokens:  # TRL prints four digits
        raise RuntimeError(f"not the same tokens: {theirs.tokens} and {ours.tokens}")
    print(f"{scratch.name}: trl sft {theirs}, posttrain {ours}", file=sys.stderr)
    return theirs, ours


def _numbers(turns: Sequence[Turn], number: Callable[[Measured], float]) -> tuple[list[float], list[float]]:
    return [number(theirs) for theirs, _ in turns], [number(ours) for _, ours in turns]


def _speed(one: Measured) -> float:
    return one.tokens_per_second


if __name__ == "__main__":
    sys.exit(main())
