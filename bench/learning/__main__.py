"""What each method and tuning teaches, as a table: `python -m bench.learning [--case NAME]`; 1 if a claim fails."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console
from rich.table import Table as Shown

from bench.learning.cases import CASES, Case
from bench.learning.train import Measured, Table

SEEDS = (42, 43, 44)


def main() -> int:
    """Train and measure every case."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--case", action="append", help="only this; may be given again")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds (default: 3; variants take one)")
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.case or case.name in options.case]
    shown = Shown("training", "measure", "before", "after", "smallest gain", "claimed at least", "seconds")
    has_failed = False
    with tempfile.TemporaryDirectory() as scratch:
        table = Table(Path(scratch))
        for case in chosen:
            began = time.monotonic()
            found = [table.measured(case, seed) for seed in SEEDS[: 1 if case.is_variant else options.seeds]]
            worst = min(found, key=lambda one: one.gain)
            has_failed |= worst.gain < case.at_least
            shown.add_row(*_row(case, worst), f"{(time.monotonic() - began) / len(found):.0f}")
    Console().print(shown)
    return 1 if has_failed else 0


def _row(case: Case, worst: Measured) -> tuple[str, ...]:
    numbers = (worst.before, worst.after, worst.gain, case.at_least)
    return (case.name, case.measure, *(f"{number:.2f}" for number in numbers))


if __name__ == "__main__":
    sys.exit(main())
