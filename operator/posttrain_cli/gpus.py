"""What is known of GPUs without a cluster, for an estimate of time and cost. Pure.

A chart's own table is made for its cluster; this one holds the makers' memory sizes, and of the dense bf16 throughput
of their data sheets the 40 % that a well-fed training reaches.
"""

from collections.abc import Mapping
from typing import NamedTuple

from posttrain_api.trainer_contract import Machine
from posttrain_cli.failure import Failure

REACHED_SHARE = 0.4


class Gpu(NamedTuple):
    """A GPU by its data sheet."""

    memory_gib: float
    peak_teraflops: float


GPUS: Mapping[str, Gpu] = {
    "a10": Gpu(22, 125),
    "l4": Gpu(22, 121),
    "l40s": Gpu(45, 362),
    "rtx-4090": Gpu(24, 165),
    "a100-40": Gpu(40, 312),
    "a100-80": Gpu(80, 312),
    "h100": Gpu(80, 989),
    "h200": Gpu(141, 989),
    "b200": Gpu(180, 2250),
}


def machine(name: str, *, price_per_hour: float, currency: str) -> Machine:
    """A machine with one such GPU; Failure where the name is not known."""
    found = GPUS.get(name.lower())
    if found is None:
        raise Failure(f"--gpu {name}: write one of {', '.join(GPUS)}")
    return Machine(
        gpu=name.lower(),
        memory_gib=found.memory_gib,
        teraflops=found.peak_teraflops * REACHED_SHARE,
        price_per_hour=price_per_hour,
        currency=currency,
    )
