"""What was found of an environment, as lines and tables for people. Pure."""

from collections.abc import Iterator

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from posttrain_api.environment_report import EnvironmentReport, Finding
from posttrain_cli.failure import one_line

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}
"""Verdict -> its colour."""
INDENT = 2


def parts(report: EnvironmentReport) -> Iterator[Text | Padding]:
    """A line for each finding, with its table below, and the verdict of all."""
    for finding in report.findings:
        yield Text(f"{finding.verdict:8}{finding.what}: {one_line(finding.message)}", STYLES[finding.verdict])
        if finding.rows:
            yield Padding(_table(finding), (0, 0, 0, 2 * INDENT))
    yield _verdict(report)


def _table(finding: Finding) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in finding.columns:
        made.add_column(Text(column), overflow="fold")
    for row in finding.rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))
    return made


def _verdict(report: EnvironmentReport) -> Text:
    wrong = [finding.what for finding in report.findings if finding.verdict == "wrong"]
    if wrong:
        return Text(f"not fit to learn from: {', '.join(wrong)}", STYLES["wrong"])
    return Text("fit to learn from, as far as can be told here", STYLES["ok"])
