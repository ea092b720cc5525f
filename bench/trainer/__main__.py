"""The trainer against TRL's command line, side by side, as a table: `python -m bench.trainer`.

1 where a claim does not hold.
"""

import argparse
import functools
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.trainer import grpo, loss, sft
from bench.trainer.material import Length, Material
from bench.trainer.sides import Measured

METHODS = ("sft", "grpo")
MAX_LOSS_DIFFERENCE = 0.01
MAX_TOKEN_DIFFERENCE = 0.01
"""TRL prints four digits, and asks the prompts of grpo in another order, of which neither comes to the end."""
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
    parser.add_argument("--method", action="append", choices=METHODS, help="only this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        claims = _claims(Path(scratch), options.method or METHODS, options.repetitions)
    table = Table("median", "trl", "posttrain", "ratio", "claimed", "")
    for claim in claims:
        table.add_row(*claim.row())
    Console(width=110).print(table)
    return 0 if all(claim.holds for claim in claims) else 1


def _claims(scratch: Path, methods: Sequence[str], repetitions: int) -> list[Claim]:
    material = Material(scratch / "material")
    found = {"sft": _of_sft, "grpo": _of_grpo}
    return [claim for method in methods for claim in found[method](material, scratch, repetitions)]


def _of_sft(material: Material, scratch: Path, repetitions: int) -> list[Claim]:
    turns: dict[Length, list[Turn]] = {"even": [], "ragged": []}
    for number, (rows, found) in itertools.product(range(repetitions), turns.items()):
        sides = functools.partial(sft.trl, material, rows), functools.partial(sft.ours, material, rows)
        found.append(_turn(scratch / f"sft-{rows}-{number}", *sides))
    held_out = material.held_out("ragged")

    def losses(one: Measured) -> float:
        return loss.held_out(material.base, one.adapter, held_out)

    even, ragged = turns.values()
    near = {"least": 1 - MAX_LOSS_DIFFERENCE, "most": 1 + MAX_LOSS_DIFFERENCE}
    return [
        Claim("sft: tokens/s, equal settings, rows of one length", *_numbers(even, _speed), least=1.0),
        Claim("sft: tokens/s, our defaults, ragged rows", *_numbers(ragged, _speed), least=1.5),
        Claim("sft: held-out loss after ragged rows", *_numbers(ragged, losses), **near),
        Claim("sft: seconds, start to first step", *_numbers(even, lambda one: one.first_step_seconds), most=1.0),
    ]


def _of_grpo(material: Material, scratch: Path, repetitions: int) -> list[Claim]:
    sides = functools.partial(grpo.trl, material), functools.partial(grpo.ours, material)
    turns = [_turn(scratch / f"grpo-{number}", *sides) for number in range(repetitions)]
    return [
        Claim("grpo: steps a minute, equal settings", *_numbers(turns, lambda one: one.steps_per_minute), least=1.0)
    ]


def _turn(scratch: Path, theirs: Callable[[Path], Measured], ours: Callable[[Path], Measured]) -> Turn:
    scratch.mkdir()
    turn = theirs(scratch), ours(scratch)
    if abs(turn[0].tokens - turn[1].tokens) > MAX_TOKEN_DIFFERENCE * turn[0].tokens:
        raise RuntimeError(f"not the same tokens: {turn[0].tokens} and {turn[1].tokens}")
    print(f"{scratch.name}: trl {turn[0]}, posttrain {turn[1]}", file=sys.stderr)
    return turn


def _numbers(turns: Sequence[Turn], number: Callable[[Measured], float]) -> tuple[list[float], list[float]]:
    return [number(theirs) for theirs, _ in turns], [number(ours) for _, ours in turns]


def _speed(one: Measured) -> float:
    return one.tokens_per_second


if __name__ == "__main__":
    sys.exit(main())
