"""One version everywhere."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]


def test_package_and_chart_have_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts/posttrain/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
