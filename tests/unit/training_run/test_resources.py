"""Children as whole objects, and what every pod of a run keeps to."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from tests.unit.training_run.builders import NOW, SETTINGS, World
from tests.unit.training_run.golden import FOLDER, PLATFORM, RENDERED, parsed, preflight, training, with_code

from posttrain_api.gpus import GpuTable
from posttrain_api.meta import PodTemplate
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.uri import local_path
from posttrain_operator.actions import Manifest
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import stages
from posttrain_operator.training_run.observe import Observed


@pytest.mark.parametrize("name", RENDERED)
def test_children_are_as_the_golden_files_say(name: str) -> None:
    assert RENDERED[name]() == yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def test_there_is_no_golden_file_without_a_child() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == RENDERED.keys()


def test_the_trainer_reads_the_recipe_that_was_frozen() -> None:
    world = World()
    world.step()

    assert RunConfig.model_validate(world.config).recipe.hyperparameters.learning_rate == 2e-4


H200 = {"nodeSelector": {"pool": "any", "nvidia.com/gpu.product": "NVIDIA-H200"}}


@pytest.mark.parametrize(
    ("spec", "gpu"),
    [
        pytest.param({"podTemplate": H200}, "NVIDIA-H200", id="the run's node selector names it"),
        pytest.param({}, "ours", id="the chart's does"),
        pytest.param({"podTemplate": {"nodeSelector": {"pool": "new"}}}, None, id="nobody names one of the table"),
        pytest.param({"podTemplate": H200, "resources": {"gpus": 0}}, None, id="it trains on the CPU"),
    ],
)
def test_the_trainer_is_told_of_the_gpu_that_it_will_get(spec: dict[str, Any], gpu: str | None) -> None:
    table = GpuTable.over_known({"table": {"ours": {"memoryGib": 48, "teraflops": 200, "pricePerHour": 0.5}}})
    platform = replace(SETTINGS, gpus=table, default_pod_template=PodTemplate(node_selector={"pool": "ours"}))
    config = stages.run(parsed(**spec), Observed(), {}, settings=platform, now=NOW).config

    assert config.get("machine", {}).get("gpu") == gpu


def test_what_a_recipe_names_is_mounted_where_its_uri_says() -> None:
    job = training(output={"uri": "pvc://results/a"})
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]

    for uri in ("pvc://models", "pvc://data", "pvc://results"):
        assert str(local_path(uri)) in [mount["mountPath"] for mount in mounts]


@pytest.mark.parametrize(
    ("spec", "read_only"),
    [
        pytest.param(
            {"output": {"uri": "pvc://results"}}, {"models": True, "data": True, "results": False}, id="apart"
        ),
        pytest.param(
            {"output": {"uri": "pvc://data/out"}}, {"models": True, "data": False}, id="output beside the data"
        ),
        pytest.param({"output": {"uri": "pvc://models/out"}}, {"models": False, "data": True}, id="beside the base"),
        pytest.param(
            {"evaluation": {"dataset": {"uri": "pvc://held/a"}}, "output": {"uri": "pvc://data"}},
            {"models": True, "data": False, "held": True},
            id="held-out rows on a claim of their own",
        ),
        pytest.param(
            {"environment": {"dataset": {"package": "reasoning-gym:leg_counting"}}, "output": {"uri": "pvc://results"}},
            {"models": True, "results": False},
            id="rows of a package",
        ),
    ],
)
def test_a_claim_is_mounted_once_and_only_the_output_is_written(
    spec: dict[str, Any], read_only: dict[str, bool]
) -> None:
    template = preflight(**spec)["spec"]["template"]["spec"]
    names = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in template["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = [mount for mount in template["containers"][0]["volumeMounts"] if mount["name"] in names]

    assert len(names) == len(mounts) == len(read_only)
    assert {names[mount["name"]]: mount.get("readOnly", False) for mount in mounts} == read_only


@pytest.mark.parametrize("component", [preflight, training])
@pytest.mark.parametrize("settings", [SETTINGS, PLATFORM], ids=["plain", "platform"])
def test_every_container_is_restricted(component: Callable[..., Manifest], settings: Settings) -> None:
    pod = component(settings, **with_code())["spec"]["template"]["spec"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "hostPath" not in json.dumps(pod)
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert "command" not in container


def test_preflight_takes_no_gpu() -> None:
    assert "nvidia.com/gpu" not in json.dumps(preflight())
