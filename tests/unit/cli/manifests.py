"""Manifests as people write them, for the tests of the CLI's commands on files."""

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def run(name: str = "dates", *, start: Object | None = None, **spec: Any) -> Object:
    """A TrainingRun of one SFT; keywords replace parts of its spec."""
    wanted = {
        "method": "sft",
        "baseModel": start or {"uri": "pvc://models/base"},
        "environment": {"dataset": {"uri": "pvc://data/train.jsonl"}},
        **spec,
    }
    return {"apiVersion": "posttrain.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": name}, "spec": wanted}


def after(run: str) -> Object:
    """A base model that is the result of another run."""
    return {"fromRun": {"name": run}}


def deployment(*adapters: Object, name: str = "assistants", **spec: Any) -> Object:
    """An AdapterDeployment of these adapters."""
    wanted = {"baseModel": {"uri": "pvc://models/base"}, "adapters": list(adapters), **spec}
    head = {"apiVersion": "posttrain.dev/v1alpha1", "kind": "AdapterDeployment", "metadata": {"name": name}}
    return {**head, "spec": wanted}


def config_map(name: str = "dates", **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def written(path: Path, *documents: Object) -> str:
    """Write documents as one file of YAML; its name."""
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return str(path)
