"""Which GPU an estimate reckons with: the one that is named, or else the one that a run selects, as the operator finds
it, by the operator's own table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from posttrain_api.gpus import GpuTable
from posttrain_api.trainer_contract import Machine
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_cli.failure import Failure, one_line


@dataclass(frozen=True)
class Gpus:
    """What is known of the GPUs of a cluster that is not here."""

    table: GpuTable = field(default_factory=lambda: GpuTable.over_known({}))
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """The chart's own, under a run's."""
    name: str | None = None
    """The GPU to reckon with whatever a run selects."""
    price_per_hour: float | None = None
    """In place of the table's."""

    def machine(self, run: TrainingRun) -> Machine | None:
        """The machine of a run; None where its GPU is not known, or there is none."""
        found = self.table.machine(self.name) if self.name else self._selected(run)
        if found is None or self.price_per_hour is None:
            return found
        return found.replace(price_per_hour=self.price_per_hour)

    def _selected(self, run: TrainingRun) -> Machine | None:
        own = run.spec.pod_template.node_selector or {}
        return self.table.selected({**self.node_selector, **own}) if run.spec.resources.gpus else None


def gpus(values: Path | None = None, *, name: str | None = None, price_per_hour: float | None = None) -> Gpus:
    """The GPUs of a chart's values file, or of posttrain's own table; Failure where something of it is wrong."""
    given = _values(values) if values else {}
    try:
        table = GpuTable.over_known(given.get("gpus") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("gpus", *first["loc"])))
        raise Failure(f"--values {values}: {place}: {first['msg']}") from error
    template = given.get("defaultPodTemplate") or {}
    full = _full_name(name, table) if name else None
    return Gpus(table, template.get("nodeSelector") or {}, full, price_per_hour)


def _values(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as problem:
        raise Failure(f"--values {file}: cannot be read: {getattr(problem, 'strerror', 'it is no text')}") from problem
    except yaml.YAMLError as problem:
        raise Failure(f"--values {file}: this is no YAML: {one_line(str(problem))}") from problem
    if not isinstance(found, dict):
        raise Failure(f"--values {file}: these are no values of the chart")
    return found


def _full_name(name: str, table: GpuTable) -> str:
    """The name in the table that this one is, or is the only part of."""
    exact = [known for known in table.table if known.lower() == name.lower()]
    found = exact or [known for known in table.table if name.lower() in known.lower()]
    if len(found) != 1:
        raise Failure(f"--gpu {name}: write one of {', '.join(found or table.table)}")
    return found[0]
