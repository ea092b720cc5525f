"""The children as files to read and to review. `python -m tests.unit.training_run.golden` writes them anew."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from tests.unit.training_run.builders import DIGEST, NOW, SETTINGS, World, run

from posttrain_api.meta import PodTemplate
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_operator.actions import Manifest
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import resources, stages
from posttrain_operator.training_run.observe import Observed

FOLDER = Path(__file__).parent / "golden"

PLATFORM = replace(
    SETTINGS,
    claim_storage_class="fast",
    default_pod_template=PodTemplate(runtime_class_name="nvidia", node_selector={"pool": "gpu"}),
)
"""A platform with words of its own."""


def parsed(**spec: Any) -> TrainingRun:
    """A run as plan() reads it."""
    return TrainingRun.model_validate({**run(**spec), "status": {}})


def _config(**spec: Any) -> Manifest:
    return stages.run(parsed(**spec), Observed(), {}, settings=SETTINGS, now=NOW).config


def preflight(settings: Settings = SETTINGS, **spec: Any) -> Manifest:
    """The Job of a new run's preflight."""
    return resources.preflight(parsed(**spec), _config(**spec), settings=settings)


def training(settings: Settings = SETTINGS, **spec: Any) -> Manifest:
    """The Job of a new run's training."""
    return resources.training(parsed(**spec), _config(**spec), settings=settings)


def _training_on_a_merge() -> Manifest:
    """The second round of a run that starts from another's merged adapter."""
    source = {"run": "sft", "uri": "pvc://models/sft/base-sha256-1", "digest": DIGEST, "kind": "lora"}
    config = {**_config(), "round": 1, "sources": {"baseModel": source}}
    return resources.training(parsed(baseModel={"fromRun": {"name": "sft"}}), config, settings=SETTINGS)


def everything_said() -> dict[str, Any]:
    """A spec in which little is left to decide."""
    return {
        "environment": {
            "dataset": {"configMap": {"name": "rows", "key": "train.jsonl"}},
            "chatTemplate": {"configMap": {"name": "templates", "key": "qwen"}},
        },
        "evaluation": {"dataset": {"uri": "pvc://data/held-out.jsonl"}, "metrics": ["exactMatch"]},
        "output": {"uri": "pvc://data/artifacts"},
        "resources": {"gpus": 1, "cpu": "8", "memory": "64Gi", "sharedMemory": "8Gi"},
        "podTemplate": {
            "image": "registry.team/trainer:2",
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
            "serviceAccountName": "trainer",
        },
        "deadlineSeconds": 3600,
    }


def with_code() -> dict[str, Any]:
    """Rewards of a claim, of a ConfigMap and of a judge; a server that answers."""
    on_claim = {"python": {"uri": "pvc://data/rewards", "entrypoint": "rewards:score"}}
    in_config_map = {"python": {"configMap": {"name": "code"}, "entrypoint": "rewards:success"}, "role": "success"}
    judge = {"http": {"url": "https://judge/score", "token": {"name": "judge", "key": "token"}}}
    return {
        "method": "grpo",
        "baseModel": {"uri": "pvc://models/tiny", "tuned": True},
        "environment": {"dataset": {"uri": "pvc://data/train.jsonl"}, "rewards": [on_claim, in_config_map, judge]},
        "grpo": {"rollout": {"mode": "server"}},
    }


def _recipe() -> Manifest:
    world = World()
    return next(child for child in world.step().apply if child["kind"] == "ConfigMap")


RENDERED: dict[str, Callable[[], Manifest]] = {
    "recipe": _recipe,
    "preflight": preflight,
    "preflight-with-everything": lambda: preflight(PLATFORM, **everything_said()),
    "training": training,
    "training-with-everything": lambda: training(PLATFORM, **everything_said()),
    "training-on-the-cpu": lambda: training(resources={"gpus": 0}),
    "training-on-a-merge": _training_on_a_merge,
    "preflight-with-code": lambda: preflight(**with_code()),
    "training-with-code": lambda: training(**with_code()),
    "network-policy": lambda: resources.policy(parsed(), settings=SETTINGS),
    "claim": lambda: resources.default_claim(parsed(), settings=SETTINGS),
    "claim-of-a-class": lambda: resources.default_claim(parsed(), settings=PLATFORM),
}


class _InFull(yaml.SafeDumper):
    """Writes what occurs twice twice, as people would."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def main() -> None:
    """Write every file."""
    for name, rendered in RENDERED.items():
        text = yaml.dump(rendered(), Dumper=_InFull, sort_keys=False, width=120, allow_unicode=True)
        (FOLDER / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    main()
