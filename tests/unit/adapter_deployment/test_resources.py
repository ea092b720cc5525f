"""Children as whole objects, and what must and must not restart the pods."""

import argparse
from typing import Any

import pytest
import yaml
from tests.unit.adapter_deployment.builders import BASE, SETTINGS, deployment
from tests.unit.adapter_deployment.golden import FOLDER, RENDERED

from posttrain_operator import metadata
from posttrain_operator.adapter_deployment import resources
from posttrain_server import __main__ as server


@pytest.mark.parametrize("name", RENDERED)
def test_children_are_as_the_golden_files_say(name: str) -> None:
    assert RENDERED[name]() == yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def test_there_is_no_golden_file_without_a_child() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == RENDERED.keys()


def template_digest(**spec: Any) -> str | None:
    return resources.template_digest(
        resources.deployment(deployment("support", **spec), base=BASE, claims=["models"], settings=SETTINGS)
    )


@pytest.mark.parametrize(
    ("spec", "restarts"),
    [
        pytest.param({"replicas": 5}, False, id="more replicas"),
        pytest.param({"adapters": []}, False, id="no adapters"),
        pytest.param({"engine": {"maxRank": 128}}, True, id="a larger rank"),
        pytest.param({"engine": {"chatTemplate": {"inline": "x"}}}, True, id="a chat template"),
        pytest.param({"resources": {"memory": "8Gi"}}, True, id="more memory"),
        pytest.param({"podTemplate": {"image": "server:2"}}, True, id="another image"),
    ],
)
def test_only_what_a_pod_is_made_from_restarts_pods(spec: dict[str, Any], *, restarts: bool) -> None:
    assert (template_digest(**spec) != template_digest()) is restarts


def test_another_inline_template_restarts_pods_though_their_spec_is_the_same() -> None:
    first, second = ({"engine": {"chatTemplate": {"inline": text}}} for text in "ab")

    assert template_digest(**first) != template_digest(**second)


def test_an_applied_child_is_current_until_it_is_to_be_another() -> None:
    child = resources.service(deployment())

    assert metadata.is_current(child, child)
    assert not metadata.is_current(resources.network_policy(deployment(), SETTINGS), child)
    assert not metadata.is_current(child, None)


def test_the_token_is_read_back_from_the_secret() -> None:
    assert resources.token_of({"data": {"token": "cmFuZG9t"}}) == "random"
    assert resources.token_of({"data": {}}) is None


@pytest.mark.parametrize("deployment", ["deployment-with-everything", "deployment-on-a-result"])
@pytest.mark.parametrize("container", ["key", "engine", "agent"])
def test_the_server_image_knows_every_argument(container: str, deployment: str) -> None:
    spec = RENDERED[deployment]()["spec"]["template"]["spec"]
    args = next(item for item in [*spec["initContainers"], *spec["containers"]] if item["name"] == container)["args"]

    parsed = server._parser().parse_args(args)

    assert isinstance(parsed, argparse.Namespace)
