"""Which GPU an estimate reckons with."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli import manifests
from tests.unit.cli.manifests import Object

from posttrain_api.trainer_contract import Machine
from posttrain_cli import gpus
from posttrain_cli.documents import Document
from posttrain_cli.estimate import run_config
from posttrain_cli.failure import Failure
from posttrain_cli.gpus import Gpus


def selecting(gpu: str) -> Object:
    return {"podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": gpu}}}


def machine_of(known: Gpus, **spec: Any) -> Machine | None:
    return run_config(Document("here", manifests.run("a", **spec)), {}, gpus=known).machine


def test_a_run_s_gpu_is_the_one_that_it_selects_and_else_the_one_that_is_named(tmp_path: Path):
    values = tmp_path / "values.yaml"
    values.write_text(
        "defaultPodTemplate: {nodeSelector: {pool: ours}}\n"
        "gpus: {currency: EUR, reachedShare: 0.5, table: {ours: {memoryGib: 48, teraflops: 200, pricePerHour: 0.25}}}\n"
    )
    plain, cluster = gpus.gpus(), gpus.gpus(values)
    assert machine_of(plain) is None
    selected = machine_of(plain, **selecting("NVIDIA-H200"))
    assert selected is not None
    assert (selected.gpu, selected.memory_gib, selected.currency) == ("NVIDIA-H200", 141, "USD")
    assert selected.teraflops == pytest.approx(0.4 * 989)
    assert machine_of(plain, **selecting("NVIDIA-H200"), resources={"gpus": 0}) is None
    ours = Machine(gpu="ours", memory_gib=48, teraflops=100, price_per_hour=0.25, currency="EUR")
    assert machine_of(cluster) == ours
    assert machine_of(gpus.gpus(values, name="h200", price_per_hour=2.5)) == Machine(
        gpu="NVIDIA-H200", memory_gib=141, teraflops=494.5, price_per_hour=2.5, currency="EUR"
    )


WRONG_GPUS = {
    "unknown": ({"name": "h1000"}, "", "--gpu h1000: write one of NVIDIA-A10, NVIDIA-L4"),
    "two of them": ({"name": "h100"}, "", "--gpu h100: write one of NVIDIA-H100-PCIe, NVIDIA-H100-80GB-HBM3"),
    "half a GPU": ({}, "gpus: {table: {a: {teraflops: 1}}}", "gpus.table.a.memoryGib: Field required"),
    "no values": ({}, "- gpus", "these are no values of the chart"),
    "no YAML": ({}, "{", "this is no YAML"),
}


@pytest.mark.parametrize(("options", "content", "expected"), WRONG_GPUS.values(), ids=WRONG_GPUS.keys())
def test_what_is_wrong_with_a_gpu_is_told(tmp_path: Path, options: Object, content: str, expected: str):
    values = tmp_path / "values.yaml"
    values.write_text(content)
    with pytest.raises(Failure, match=expected):
        gpus.gpus(values if content else None, **options)
