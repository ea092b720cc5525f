"""The children as files to read and to review. `python -m tests.unit.adapter_deployment.golden` writes them anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.unit.adapter_deployment.builders import BASE, SETTINGS, deployment, digest

from posttrain_api.server_contract import DesiredAdapter, DesiredAdapters
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import resources
from posttrain_operator.adapter_deployment.base import Base

RESULT = Base(uri=f"pvc://posttrain-artifacts/sft/sha256-{'c' * 64}", run="sft")
FOLDER = Path(__file__).parent / "golden"


def _list() -> DesiredAdapters:
    uri = f"pvc://posttrain-artifacts/support/sha256-{'b' * 64}"
    return DesiredAdapters(adapters=[DesiredAdapter(name="support", uri=uri, digest=digest("b"))])


def _everything_said() -> dict[str, Any]:
    return {
        "replicas": 3,
        "engine": {
            "maxRank": 32,
            "maxLoadedAdapters": 4,
            "maxCachedAdapters": 16,
            "maxModelLength": 4096,
            "dtype": "bfloat16",
            "chatTemplate": {"configMap": {"name": "templates", "key": "qwen"}},
        },
        "resources": {"gpus": 2, "cpu": "8", "memory": "64Gi", "sharedMemory": "8Gi"},
        "podTemplate": {
            "image": "registry.team/server:2",
            "nodeSelector": {"gpu": "h100"},
            "runtimeClassName": "nvidia",
            "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}],
        },
    }


RENDERED: dict[str, Callable[[], Manifest]] = {
    "deployment": lambda: resources.deployment(
        deployment("support"), base=BASE, claims=["posttrain-artifacts", "models"], settings=SETTINGS
    ),
    "deployment-with-everything": lambda: resources.deployment(
        deployment("support", **_everything_said()), base=BASE, claims=["models"], settings=SETTINGS
    ),
    "deployment-on-a-result": lambda: resources.deployment(
        deployment(), base=RESULT, claims=["posttrain-artifacts"], settings=SETTINGS
    ),
    "config-map": lambda: resources.config_map(
        deployment("support", engine={"chatTemplate": {"inline": "{{ messages }}"}}),
        desired=_list(),
        sources={"support": "support"},
        base=BASE,
    ),
    "service": lambda: resources.service(deployment()),
    "network-policy": lambda: resources.network_policy(deployment(), SETTINGS),
    "secret": lambda: resources.secret(deployment(), token="random"),
}


def main() -> None:
    """Write every file."""
    for name, rendered in RENDERED.items():
        (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(rendered(), sort_keys=False, width=120))


if __name__ == "__main__":
    main()
