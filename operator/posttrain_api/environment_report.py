"""What the trainer says to the command line of an environment that it tried without a GPU and without a cluster."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain_api.model import Model

Verdict = Literal["ok", "warning", "wrong", "skipped"]


class Finding(Model):
    """One thing that was looked at."""

    what: Annotated[str, Field(max_length=64)]
    """What it is, such as rows or rewards."""
    verdict: Verdict
    """wrong: a training would be refused or learn nothing. skipped: it could not be looked at here."""
    message: str
    """What was found, in a sentence, and what to do."""
    columns: list[str] = []
    """Heads of a table, where there is one."""
    rows: list[list[str]] = []
    """Its rows, a text for each column."""


class EnvironmentReport(Model):
    """Everything that can be known of an environment on a machine without a GPU."""

    findings: list[Finding]
    """In the order in which a training would come upon them."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.verdict != "wrong" for finding in self.findings)
