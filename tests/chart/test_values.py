"""Wrong values are refused before anything is installed, naming the value."""

import json

import pytest
from tests.chart.conftest import CHART, Helm, Manifest

from posttrain_api.meta import PodTemplate


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"image": {}}, "image", id="an unknown value"),
        pytest.param({"images": {"trainer": ""}}, "/images/trainer", id="no image"),
        pytest.param({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy", id="an unknown pull policy"),
        pytest.param({"watchNamespaces": "team"}, "/watchNamespaces", id="namespaces that are no list"),
        pytest.param({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0", id="not a namespace's name"),
        pytest.param({"defaultPodTemplate": {"hostNetwork": True}}, "hostNetwork", id="access to the node"),
        pytest.param({"defaultPodTemplate": {"image": "x"}}, "image", id="one image for trainers and servers"),
        pytest.param(
            {"defaultPodTemplate": {"nodeSelector": {"a": True}}}, "nodeSelector/a", id="a label that is no text"
        ),
        pytest.param({"artifactsClaim": {"size": "lots"}}, "/artifactsClaim/size", id="a size that is none"),
        pytest.param({"artifactsClaim": {"accessMode": "ReadOnlyMany"}}, "/artifactsClaim/accessMode", id="read-only"),
        pytest.param({"rewards": {"memory": "much"}}, "/rewards/memory", id="memory of reward code"),
        pytest.param({"gpus": {"table": {"a b": {}}}}, "/gpus/table", id="a GPU that no label can name"),
        pytest.param({"gpus": {"table": {"mine": {"pricePerHour": 1}}}}, "/gpus/table/mine", id="half a GPU"),
        pytest.param({"gpus": {"reachedShare": 40}}, "/gpus/reachedShare", id="a share in percent"),
        pytest.param({"operator": {"workers": 0}}, "/operator/workers", id="no workers"),
        pytest.param({"operator": {"resources": {"limits": {"memory": "much"}}}}, "/operator/resources", id="memory"),
        pytest.param({"crds": {"install": "yes"}}, "/crds/install", id="a text for a truth value"),
    ],
)
def test_a_wrong_value_is_refused(helm: Helm, values: Manifest, named: str) -> None:
    shown = helm("template", "posttrain", str(CHART), values=values)

    assert shown.returncode != 0
    assert named in shown.stderr


def test_the_default_pod_template_has_the_fields_of_pod_templates() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    fields = {field.alias for field in PodTemplate.model_fields.values()}

    assert schema["properties"]["defaultPodTemplate"]["properties"].keys() == fields - {"image"}
