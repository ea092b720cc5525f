"""What both tables of what is learned are told on the command line."""

import argparse
from collections.abc import Iterable

from bench.learning import table


def given(program: str, description: str | None, *, names: Iterable[str], seeds: int) -> argparse.Namespace:
    """`case`, `seeds` and `write`; `names`: of all cases."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--case", action="append", choices=names, metavar="NAME", help="only this; may be given again")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"number of seeds (default: {seeds})")
    parser.add_argument("--write", action="store_true", help=f"write the table into {table.DOCUMENT.name} too")
    return parser.parse_args()
