"""What each method and tuning teaches, as a table: `python -m bench.learning [--case NAME] [--write]`.

Everything is trained and measured in this process; 1 where a claim does not hold.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.learning import options, proof, quiet, table
from bench.learning.cases import CASES, Case
from bench.learning.proof import Change
from bench.learning.table import Line
from bench.learning.trainings import Trainings

SEEDS = (42, 43, 44)


def main() -> int:
    """Train and measure every case."""
    names = [case.name for case in CASES]
    given = options.given("python -m bench.learning", __doc__, names=names, seeds=len(SEEDS))
    chosen = [case for case in CASES if not given.case or case.name in given.case]
    watch = table.Stopwatch()
    with tempfile.TemporaryDirectory() as scratch, quiet.libraries():
        trainings = Trainings(Path(scratch))
        lines = [line for case in chosen for line in _lines(case, trainings, SEEDS[: given.seeds])]
    footer = watch.footer()
    table.show(lines, footer)
    if given.write:
        table.write(lines, footer, section="learning")
    return 0 if all(line.worst.margin >= 0 for line in lines) else 1


def _lines(case: Case, trainings: Trainings, seeds: Sequence[int]) -> list[Line]:
    chosen = seeds[:1] if case.is_variant else seeds
    cpu = time.process_time()
    found = [_changes(case, seed, trainings) for seed in chosen]
    spent = (time.process_time() - cpu) / len(chosen)
    worst = [min(seeds, key=lambda change: change.margin) for seeds in zip(*found, strict=True)]
    return [Line(case.name, change, len(chosen), spent) for change in worst]


def _changes(case: Case, seed: int, trainings: Trainings) -> list[Change]:
    began = time.monotonic()
    found = proof.changes(case, seed, trainings)
    numbers = ", ".join(f"{one.measure} {one.before:.2f} -> {one.after:.2f}" for one in found)
    print(f"{case.name}, seed {seed}: {numbers} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
