"""What README and guides show can be applied: each YAML block is a manifest, or fits into one."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from posttrain_api.gpus import KNOWN, GpuTable
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_api.v1alpha1.training_run import TrainingRun

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md")))
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
REST: dict[str, dict[str, Any]] = {
    "TrainingRun": {
        "method": "sft",
        "baseModel": {"uri": "pvc://models/base"},
        "environment": {"dataset": {"uri": "pvc://data/rows.jsonl"}},
    },
    "AdapterDeployment": {
        "baseModel": {"uri": "pvc://models/base"},
        "adapters": [{"name": "a", "fromRun": {"name": "a"}}],
    },
}
"""What a block may leave out, being about something else."""


def blocks() -> list[Any]:
    """Every YAML block of every page, as test parameters."""
    return [
        pytest.param(textwrap.dedent(block), id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(BLOCK.findall(page.read_text()))
    ]


def manifest(shown: dict[str, Any]) -> dict[str, Any]:
    """A block, which is a manifest, a spec or a part of one, as a manifest."""
    spec = shown.get("spec", {} if "kind" in shown else shown)
    kind = shown.get("kind", "AdapterDeployment" if "adapters" in spec else "TrainingRun")
    metadata = {"name": "shown", "namespace": "default", "uid": "1", **shown.get("metadata", {})}
    return {"kind": kind, "metadata": metadata, "spec": {**REST[kind], **spec}}


@pytest.mark.parametrize("block", blocks())
def test_what_is_shown_can_be_applied(block: str):
    shown = yaml.safe_load(block.replace("…", "0" * 64))
    if shown.keys() == {"gpus"}:  # values of the chart
        assert GpuTable.over_known(shown["gpus"]).table.keys() >= KNOWN.keys()
        return
    whole = manifest(shown)
    model = {"TrainingRun": TrainingRun, "AdapterDeployment": AdapterDeployment}[whole["kind"]]
    model.model_validate(whole)


def test_a_wrong_word_would_be_noticed():
    with pytest.raises(ValueError, match="epoch"):
        TrainingRun.model_validate(manifest({"hyperparameters": {"epoch": 3}}))
