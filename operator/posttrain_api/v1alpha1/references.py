"""How an object names a TrainingRun of its namespace whose accepted result it uses."""

from typing import Annotated

from pydantic import Field

from posttrain_api.meta import Name
from posttrain_api.model import Model

CheckpointName = Annotated[str, Field(max_length=32, pattern=r"^(best|final|step-[1-9][0-9]*)$")]


class RunReference(Model):
    """The accepted result of another TrainingRun of this namespace."""

    name: Name
    """Name of the TrainingRun. What refers to it waits until that run is accepted."""


class CheckpointReference(RunReference):
    """The accepted result of another TrainingRun of this namespace, or one of its named checkpoints."""

    checkpoint: CheckpointName | None = None
    """best, final or step-N, as in that run's status.checkpoints; left out: the result itself."""
