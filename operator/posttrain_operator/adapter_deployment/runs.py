"""How a deployment names the TrainingRuns that it follows. Pure."""

from posttrain_api.v1alpha1.adapter_deployment import AdapterDeploymentSpec
from posttrain_api.v1alpha1.references import CheckpointReference


def references(spec: AdapterDeploymentSpec) -> list[CheckpointReference]:
    """Everything that a deployment takes from runs."""
    given = (spec.base_model.from_run, *(adapter.from_run for adapter in spec.adapters))
    return [reference for reference in given if reference]


def text(reference: CheckpointReference) -> str:
    """A reference as people, and our own records, write it."""
    return f"{reference.name}/{reference.checkpoint}" if reference.checkpoint else reference.name
