"""What every pod of ours shares: how templates merge, and that no pod gets more than it needs."""

from typing import Any

import pytest

from posttrain_api.meta import PodTemplate
from posttrain_api.v1alpha1.training_run import Resources
from posttrain_operator import pod_template
from posttrain_operator.settings import Settings, from_environment

SETTINGS = Settings(trainer_image="trainer:1", server_image="server:1")


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing said"),
        pytest.param({"runtimeClassName": "nvidia"}, {}, {"runtimeClassName": "nvidia"}, id="the default holds"),
        pytest.param({"image": "a"}, {"image": "b"}, {"image": "b"}, id="the own image wins"),
        pytest.param(
            {"nodeSelector": {"gpu": "h100", "zone": "a"}},
            {"nodeSelector": {"zone": "b"}},
            {"nodeSelector": {"gpu": "h100", "zone": "b"}},
            id="node selectors are joined by key",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}]},
            {"tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}]},
            id="tolerations are added once",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
            {"env": [{"name": "B", "value": "2"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            id="variables are joined by name",
        ),
        pytest.param(
            {"volumeMounts": [{"name": "a", "mountPath": "/data"}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/data"}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/data"}]},
            id="mounts are joined by path",
        ),
        pytest.param(
            {"affinity": {"nodeAffinity": {"a": 1}}},
            {"affinity": {"podAffinity": {"b": 1}}},
            {"affinity": {"podAffinity": {"b": 1}}},
            id="affinity is replaced",
        ),
    ],
)
def test_own_template_lies_over_the_default(
    default: dict[str, Any], own: dict[str, Any], expected: dict[str, Any]
) -> None:
    result = pod_template.merged(PodTemplate.model_validate(own), PodTemplate.model_validate(default))

    assert result.to_json() == expected


def test_a_pod_is_restricted_and_has_no_token() -> None:
    template = PodTemplate.model_validate(
        {
            "runtimeClassName": "nvidia",
            "priorityClassName": "high",
            "serviceAccountName": "reader",
            "env": [{"name": "HOME", "value": "/home/me"}],
            "volumes": [{"name": "mine", "configMap": {"name": "mine"}}],
            "volumeMounts": [{"name": "mine", "mountPath": "/mine", "readOnly": True}],
        }
    )
    main = pod_template.container(
        "main",
        image=pod_template.image(template, default="trainer:1"),
        args=["train"],
        mounts=[pod_template.claim_mount("models", read_only=True)],
        settings=SETTINGS,
        template=template,
        resources=pod_template.resource_requirements(Resources(gpus=1, cpu="4", memory="32Gi")),
    )

    spec = pod_template.pod_spec(
        template, containers=[main], volumes=[pod_template.claim_volume("models")], restartPolicy="Never"
    )

    assert spec == {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "main",
                "image": "trainer:1",
                "imagePullPolicy": "IfNotPresent",
                "args": ["train"],
                "env": [{"name": "HOME", "value": "/home/me"}],
                "volumeMounts": [
                    {"name": "claim-8edcc26c0f", "mountPath": "/var/lib/posttrain/claims/models", "readOnly": True},
                    {"name": "mine", "mountPath": "/mine", "readOnly": True},
                ],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "1"},
                    "limits": {"memory": "32Gi", "nvidia.com/gpu": "1"},
                },
            }
        ],
        "volumes": [
            {"name": "claim-8edcc26c0f", "persistentVolumeClaim": {"claimName": "models"}},
            {"name": "mine", "configMap": {"name": "mine"}},
        ],
        "serviceAccountName": "reader",
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "restartPolicy": "Never",
    }


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param(Resources(gpus=0), {}, id="nothing asked for"),
        pytest.param(
            Resources(gpus=1, gpu_resource_name="amd.com/gpu"),
            {"requests": {"amd.com/gpu": "1"}, "limits": {"amd.com/gpu": "1"}},
            id="a GPU of another maker",
        ),
        pytest.param(Resources(gpus=0, cpu="2"), {"requests": {"cpu": "2"}}, id="CPU is never limited"),
    ],
)
def test_resource_requirements(resources: Resources, expected: dict[str, Any]) -> None:
    assert pod_template.resource_requirements(resources) == expected


def test_a_claim_with_a_long_dotted_name_gets_a_legal_volume_name() -> None:
    volume = pod_template.claim_volume("a.b." + "c" * 240)

    assert len(volume["name"]) <= 63
    assert "." not in volume["name"]


def test_an_unknown_field_of_the_default_template_stops_the_operator_at_its_start() -> None:
    environment = {
        "POSTTRAIN_TRAINER_IMAGE": "t",
        "POSTTRAIN_SERVER_IMAGE": "s",
        "POSTTRAIN_DEFAULT_POD_TEMPLATE": '{"hostNetwork": true}',
    }

    with pytest.raises(ValueError, match="hostNetwork"):
        from_environment(environment)
