"""What is known of GPUs, for an estimate of time and cost: one table for the operator and for an estimate on a laptop.

The chart's values stand over it: gpus.table adds GPUs or replaces them, gpus.currency and gpus.reachedShare are the
cluster's own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from posttrain_api.model import Model
from posttrain_api.trainer_contract import Machine


class Gpu(Model):
    """A GPU by its data sheet, and what it costs."""

    memory_gib: Annotated[float, Field(gt=0)]
    """Memory, in GiB."""
    teraflops: Annotated[float, Field(gt=0)]
    """Dense bf16 throughput, without sparsity, in 1e12 operations a second."""
    price_per_hour: Annotated[float, Field(ge=0)]
    """Price of one for an hour; 0: it costs nothing."""


KNOWN: Mapping[str, Gpu] = {
    name: Gpu(memory_gib=memory, teraflops=teraflops, price_per_hour=price)
    for name, memory, teraflops, price in (
        ("NVIDIA-A10", 22, 125, 0.8),
        ("NVIDIA-L4", 22, 121, 0.7),
        ("NVIDIA-L40S", 45, 362, 1.2),
        ("NVIDIA-GeForce-RTX-4090", 24, 165, 0.5),
        ("NVIDIA-A100-PCIE-40GB", 40, 312, 1.5),
        ("NVIDIA-A100-SXM4-40GB", 40, 312, 1.5),
        ("NVIDIA-A100-80GB-PCIe", 80, 312, 2.0),
        ("NVIDIA-A100-SXM4-80GB", 80, 312, 2.0),
        ("NVIDIA-H100-PCIe", 80, 756, 2.5),
        ("NVIDIA-H100-80GB-HBM3", 80, 989, 3.0),
        ("NVIDIA-H200", 141, 989, 3.5),
        ("NVIDIA-B200", 180, 2250, 6.0),
    )
}
"""Name, as the node label nvidia.com/gpu.product has it -> memory and throughput by the makers' data sheets. The prices
are examples in round US dollars and nobody's offer: put your own into the chart's gpus.table."""


class GpuTable(Model):
    """The GPUs that an estimate knows."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "USD"
    """Currency of the prices."""
    reached_share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a GPU's throughput that training reaches: a usual number for long rows and full batches, not a
    measurement. Take your own from a run's tokensPerSecond."""
    table: dict[str, Gpu] = {}
    """Name -> GPU: any value of a node label."""

    @classmethod
    def over_known(cls, given: Mapping[str, Any]) -> Self:
        """The given table over the known GPUs; ValidationError names what is wrong with it."""
        own = cls.model_validate(given)
        return own.replace(table={**KNOWN, **own.table})

    def machine(self, name: str) -> Machine:
        """The machine with this GPU. Raises KeyError where it is not in the table."""
        found = self.table[name]
        return Machine(
            gpu=name,
            memory_gib=found.memory_gib,
            teraflops=found.teraflops * self.reached_share,
            price_per_hour=found.price_per_hour,
            currency=self.currency,
        )

    def selected(self, node_selector: Mapping[str, str] | None) -> Machine | None:
        """The machine whose GPU a node selector names, whatever the label; None where it names none of the table."""
        name = next((value for value in (node_selector or {}).values() if value in self.table), None)
        return None if name is None else self.machine(name)
