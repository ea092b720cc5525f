"""What learning from rewards teaches, as a table: `python -m bench.rl [--case NAME] [--write]`.

Everything is trained and measured in this process; 1 where a claim does not hold.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from examples.demo.base import model_folder
from tests.cluster import layout

from bench.learning import options, quiet, table
from bench.learning.table import Line
from bench.rl import proof
from bench.rl import start as starts
from bench.rl.cases import CASES, Case

SEEDS = (42, 43, 44)
SECTION = "rl"


def main() -> int:
    """Train and measure every case."""
    names = [case.name for case in CASES]
    given = options.given("python -m bench.rl", __doc__, names=names, seeds=len(SEEDS))
    chosen = [case for case in CASES if not given.case or case.name in given.case]
    watch = table.Stopwatch()
    with tempfile.TemporaryDirectory() as scratch, quiet.libraries():
        start = starts.folder(model_folder(layout.cache()))
        print(f"start: {start}", flush=True)
        lines = [_line(case, SEEDS[: given.seeds], start, Path(scratch)) for case in chosen]
    footer = watch.footer((*table.LIBRARIES[:-1], "reasoning-gym"))
    table.show(lines, footer)
    if given.write:
        table.write(lines, footer, section=SECTION)
    return 0 if all(line.worst.margin >= 0 for line in lines) else 1


def _line(case: Case, seeds: Sequence[int], start: Path, scratch: Path) -> Line:
    cpu = time.process_time()
    found = []
    for seed in seeds:
        found.append(proof.change(case, seed, start=start, scratch=scratch))
        print(f"{case.name}, seed {seed}: {found[-1].before:.2f} -> {found[-1].after:.2f}", flush=True)
    spent = (time.process_time() - cpu) / len(seeds)
    return Line(case.name, min(found, key=lambda change: change.margin), len(seeds), spent)


if __name__ == "__main__":
    sys.exit(main())
