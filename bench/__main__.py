"""Measures what docs/benchmarks.md claims, on a local cluster of its own: `python -m bench [--part PART]`."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.cluster import Cluster
from tests.e2e.conftest import LOCAL_VALUES, install
from tests.live import Access

from bench import reconcile, serving, table

PARTS: dict[str, Callable[[Access, Path], list[table.Row]]] = {"reconcile": reconcile.rows, "serving": serving.rows}


def main() -> int:
    """Print every number beside what is claimed of it; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given again")
    parts = parser.parse_args().part or list(PARTS)
    cluster = Cluster("bench")
    cluster.down()
    cluster.up(nodes=1)
    try:
        access = Access(cluster.kubeconfig, None, cluster.binary("kubectl"))
        install(access, LOCAL_VALUES)
        with tempfile.TemporaryDirectory() as scratch:
            rows = [row for part in parts for row in PARTS[part](access, Path(scratch))]
    finally:
        cluster.down()
    table.show(rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
