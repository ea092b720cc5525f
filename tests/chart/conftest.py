"""helm, and what it makes of the chart."""

import copy
import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster import Cluster

CHART = Path(__file__).parents[2] / "charts" / "posttrain"
Manifest = dict[str, Any]
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Rendered = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm to its end; keyword `values` becomes a values file on standard input."""
    program = Cluster().binary("helm")

    def run(*arguments: str, values: Manifest | None = None) -> "subprocess.CompletedProcess[str]":
        command = [str(program), *arguments, "--values=-"]
        return subprocess.run(
            command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> Rendered:
    """The objects that the chart installs with these values; the same values are rendered once."""

    @functools.cache
    def parsed(values: str) -> list[Manifest]:
        shown = helm("template", "posttrain", str(CHART), "--namespace=posttrain-system", values=json.loads(values))
        assert shown.returncode == 0, shown.stderr
        return [found for found in yaml.load_all(shown.stdout, Loader=yaml.CSafeLoader) if found]

    return lambda values=None: copy.deepcopy(parsed(json.dumps(values or {})))
