"""What the chart installs."""

from typing import Any

import pytest
import yaml
from tests.chart.conftest import CHART, Helm, Manifest, Rendered

from posttrain_api.gpus import KNOWN, Gpu, GpuTable
from posttrain_api.meta import PodTemplate
from posttrain_operator import network
from posttrain_operator.settings import Settings, from_environment

CRDS = CHART.parents[1] / "crds"


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The objects of a kind."""
    return [found for found in manifests if found["kind"] == kind]


def container(manifests: list[Manifest]) -> Manifest:
    """The operator's container."""
    (deployment,) = of_kind(manifests, "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """The operator's environment."""
    return {entry["name"]: entry["value"] for entry in container(manifests)["env"]}


class Recorder(dict[str, str]):
    """An environment that remembers what was asked for."""

    def __init__(self, content: dict[str, str]) -> None:
        super().__init__(content)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_helm_finds_nothing_wrong(helm: Helm) -> None:
    shown = helm("lint", "--strict", str(CHART))

    assert shown.returncode == 0, shown.stdout


def test_everything_that_is_installed(rendered: Rendered) -> None:
    found = sorted((manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered())

    assert found == [
        ("ClusterRole", "posttrain-operator"),
        ("ClusterRoleBinding", "posttrain-operator"),
        ("CustomResourceDefinition", "adapterdeployments.posttrain.dev"),
        ("CustomResourceDefinition", "trainingruns.posttrain.dev"),
        ("Deployment", "posttrain-operator"),
        ("Service", "posttrain-operator"),
        ("ServiceAccount", "posttrain-operator"),
    ]


def test_the_operator_reads_what_the_chart_says(rendered: Rendered) -> None:
    values = {
        "images": {"trainer": "registry.team:5000/trainer@sha256:1", "server": "registry.team:5000/server"},
        "watchNamespaces": ["a", "b"],
        "defaultPodTemplate": {"runtimeClassName": "nvidia", "nodeSelector": {"gpu": "h100"}},
        "artifactsClaim": {"size": "1Ti", "storageClassName": "nfs", "accessMode": "ReadWriteOnce"},
        "rewards": {"memory": "4Gi"},
        "gpus": {"currency": "EUR", "table": {"mine": {"memoryGib": 48, "teraflops": 200, "pricePerHour": 0}}},
        "clusterDomain": "k8s.team",
        "operator": {"workers": 8},
    }

    assert from_environment(environment(rendered(values))) == Settings(
        trainer_image="registry.team:5000/trainer@sha256:1",
        server_image="registry.team:5000/server:0.1.0",
        watch_namespaces=("a", "b"),
        default_pod_template=PodTemplate(runtime_class_name="nvidia", node_selector={"gpu": "h100"}),
        gpus=GpuTable(currency="EUR", table={**KNOWN, "mine": Gpu(memory_gib=48, teraflops=200, price_per_hour=0)}),
        claim_size="1Ti",
        claim_storage_class="nfs",
        claim_access_mode="ReadWriteOnce",
        rewards_memory="4Gi",
        cluster_domain="k8s.team",
        num_workers=8,
    )


def test_chart_and_operator_know_the_same_variables(rendered: Rendered) -> None:
    recorder = Recorder(environment(rendered()))

    from_environment(recorder)

    assert {name for name in recorder if name.startswith("POSTTRAIN_")} == recorder.asked


def test_the_operators_pod_is_restricted(rendered: Rendered) -> None:
    manifests = rendered()
    (deployment,) = of_kind(manifests, "Deployment")
    spec = deployment["spec"]["template"]["spec"]

    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_network_policies_admit_the_operators_pod(rendered: Rendered) -> None:
    (deployment,) = of_kind(rendered(), "Deployment")

    assert network.OPERATOR_LABELS.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_service_leads_to_the_metrics(rendered: Rendered) -> None:
    manifests = rendered()
    (service,), (deployment,) = of_kind(manifests, "Service"), of_kind(manifests, "Deployment")
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}

    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert [(port["port"], ports[port["targetPort"]]) for port in service["spec"]["ports"]] == [(8080, 8080)]
    assert service["metadata"]["annotations"]["prometheus.io/scrape"] == "true"


def test_definitions_are_the_generated_ones_and_outlive_the_chart(rendered: Rendered) -> None:
    generated = {path.name: yaml.safe_load(path.read_text()) for path in CRDS.glob("*.yaml")}
    expected = [
        {**crd, "metadata": {**crd["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}}
        for _, crd in sorted(generated.items())
    ]

    found = of_kind(rendered(), "CustomResourceDefinition")

    assert sorted(found, key=lambda crd: crd["metadata"]["name"]) == expected


def test_definitions_can_be_left_to_others(rendered: Rendered) -> None:
    assert of_kind(rendered({"crds": {"install": False}}), "CustomResourceDefinition") == []


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("posttrain.dev/operator", "posttrain.dev/operator:0.1.0"),
        ("posttrain.dev/operator:1", "posttrain.dev/operator:1"),
        ("localhost:5000/operator", "localhost:5000/operator:0.1.0"),
        ("operator@sha256:abc", "operator@sha256:abc"),
    ],
)
def test_an_image_without_a_tag_gets_the_charts_version(rendered: Rendered, reference: str, image: str) -> None:
    assert container(rendered({"images": {"operator": reference}}))["image"] == image
