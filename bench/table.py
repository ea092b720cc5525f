"""A printed table of what was measured beside what is claimed."""

from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One number: what it is, what was measured, what is claimed of it, and whether that holds."""

    what: str
    measured: str
    claimed: str = ""
    holds: bool = True


def show(rows: list[Row]) -> None:
    """Print the rows."""
    table = Table("what", "measured", "claimed at most", "")
    for row in rows:
        table.add_row(row.what, row.measured, row.claimed, "" if not row.claimed else "ok" if row.holds else "NO")
    Console(width=110).print(table)
