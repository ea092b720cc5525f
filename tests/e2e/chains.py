"""Runs that build on runs, up to the deployment that serves the last one."""

from typing import Any

from tests.live import Namespace, has_condition


def is_over(run: dict[str, Any]) -> bool:
    """Accepted, or stuck."""
    return has_condition("Ready", "True")(run) or has_condition("Stalled", "True")(run)


def wait_until_served(namespace: Namespace, *runs: str, by: str) -> None:
    """Return when these runs are accepted, and this deployment serves what it is to serve."""
    for name in runs:
        run = namespace.wait_for("TrainingRun", name, is_over, within=300, what="over")
        assert has_condition("Ready", "True")(run), run["status"]
    namespace.wait_for("AdapterDeployment", by, has_condition("Ready", "True"), within=240, what="Ready")
