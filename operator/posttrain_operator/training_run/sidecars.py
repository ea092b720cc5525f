"""The containers beside the trainer, as native sidecars: `rewards` runs code that is not ours, `rollout` answers with
vLLM. Pure.

The kubelet starts them before the trainer, starts one anew that has ended, and ends them after the trainer.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from posttrain_api.meta import PodTemplate
from posttrain_api.trainer_contract import (
    REWARDS_CONTAINER,
    REWARDS_FOLDER,
    REWARDS_SOCKET,
    ROLLOUT_CONTAINER,
    ROLLOUT_FOLDER,
    ROLLOUT_PORT,
)
from posttrain_api.uri import claim_of, parse
from posttrain_api.v1alpha1.adapter_deployment import MaxRank
from posttrain_api.v1alpha1.environment import Environment, PythonReward, Tools
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_operator import pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.settings import Settings

REWARDS_VOLUME, ROLLOUT_VOLUME = "posttrain-rewards", "posttrain-rollout"
REWARDS_TMP_VOLUME = "posttrain-rewards-tmp"
FIRST_USER_ID, NUM_USER_IDS = 10_000, 50_000
"""Range of the users of reward code: below 65536, which is all that a user namespace of a pod has."""


@dataclass(frozen=True)
class Sidecar:
    """A container beside the trainer, and how the trainer reaches it."""

    container: Manifest
    volumes: tuple[Manifest, ...]
    """What it needs of the pod; the trainer may have asked for the same ones."""
    trainer_args: tuple[str, ...]
    trainer_mounts: tuple[Manifest, ...]


def rewards(run: TrainingRun, *, template: PodTemplate, settings: Settings) -> list[Sidecar]:
    """What runs the code that is not ours, where the run has any.

    It gets that code and a socket, and nothing else: no variable and no mount of the template, and another user than
    the trainer's.
    """
    # As it is resolved: a package that scores its own rows runs apart too.
    environment = run.spec.recipe().environment
    if not environment.runs_foreign_code:
        return []
    memory, user = settings.rewards_memory, _user_id(run.metadata.uid)
    code = _code(environment)
    shared = pod_template.mount(REWARDS_VOLUME, str(REWARDS_FOLDER))
    container = pod_template.container(
        REWARDS_CONTAINER,
        image=pod_template.image(template, default=settings.trainer_image),
        args=["--rewards-server", "--socket", str(REWARDS_SOCKET)],
        mounts=[*code.values(), shared, pod_template.mount(REWARDS_TMP_VOLUME, pod_template.TEMPORARY_FOLDER)],
        settings=settings,
        # Images for GPUs ask for all of the node's, which a runtime may give to a container that has requested none.
        env={"USER": REWARDS_CONTAINER, "NVIDIA_VISIBLE_DEVICES": "void"},
        restartPolicy="Always",
        resources={"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}},
    )
    own = {"runAsUser": user, "runAsGroup": user}
    return [
        Sidecar(
            {**container, "securityContext": {**container["securityContext"], **own}},
            (*_code_volumes(environment), *_rewards_folders()),
            ("--rewards-socket", str(REWARDS_SOCKET)),
            (shared,),
        )
    ]


def _user_id(uid: str) -> int:
    """A user of the run's own: what one user's processes may be in number counts those of all pods of a node."""
    return FIRST_USER_ID + int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16) % NUM_USER_IDS


def _rewards_folders() -> list[Manifest]:
    # In memory, where a limit holds at once: a folder on the disk that grows beyond its own has the pod evicted.
    return [
        pod_template.folder(REWARDS_VOLUME, memory=True, size_limit="1Mi"),
        pod_template.folder(REWARDS_TMP_VOLUME, memory=True, size_limit="128Mi"),
    ]


def _sources(environment: Environment) -> list[PythonReward | Tools]:
    """Where code comes from."""
    given = [*(reward.python for reward in environment.rewards), environment.tools]
    return [source for source in given if source]


def _code(environment: Environment) -> dict[str, Manifest]:
    """The mounts of the code by their paths, read-only: of a claim no more than the folder that is named."""
    found = [mount for source in _sources(environment) for mount in _code_mounts(source)]
    return {mount["mountPath"]: mount for mount in found}


def _code_mounts(source: PythonReward | Tools) -> list[Manifest]:
    if source.config_map:
        return [pod_template.config_map_mount(source.config_map.name)]
    assert source.uri is not None
    claim, path = parse(source.uri)
    return [pod_template.claim_mount(claim, read_only=True, path=path)] if claim else []


def _code_volumes(environment: Environment) -> list[Manifest]:
    sources = _sources(environment)
    claims = (claim_of(source.uri) for source in sources if source.uri)
    return [
        *(pod_template.config_map_volume(source.config_map.name) for source in sources if source.config_map),
        *(pod_template.claim_volume(claim) for claim in claims if claim),
    ]


def rollout(run: TrainingRun, config: Manifest, *, template: PodTemplate, settings: Settings) -> list[Sidecar]:
    """The vLLM that answers while the model learns, where the recipe wants one of its own."""
    recipe = config["recipe"]
    chosen = (recipe.get(recipe["method"]) or {}).get("rollout", {})
    if chosen.get("mode") != "server":
        return []
    base = config.get("sources", {}).get("baseModel", recipe["baseModel"])["uri"]
    claim, gpus = claim_of(base), chosen["serverGpus"]
    container = pod_template.container(
        ROLLOUT_CONTAINER,
        image=settings.server_image,
        args=["rollout", *_rollout_args(recipe, chosen, base=base)],
        mounts=[
            *([pod_template.claim_mount(claim, read_only=True)] if claim else []),
            pod_template.mount(ROLLOUT_VOLUME, str(ROLLOUT_FOLDER), read_only=True),
            *pod_template.scratch_mounts(),
        ],
        settings=settings,
        template=template.replace(volume_mounts=None),
        restartPolicy="Always",
        resources=_rollout_resources(run.spec.resources.gpu_resource_name, gpus),
    )
    volumes = (pod_template.folder(ROLLOUT_VOLUME), *([pod_template.claim_volume(claim)] if claim else []))
    url = f"http://127.0.0.1:{ROLLOUT_PORT}"
    written = pod_template.mount(ROLLOUT_VOLUME, str(ROLLOUT_FOLDER))
    return [Sidecar(container, volumes, ("--rollout-url", url), (written,))]


def _rollout_args(recipe: Mapping[str, Any], chosen: Mapping[str, Any], *, base: str) -> list[str]:
    numbers, answer = recipe["hyperparameters"], recipe[recipe["method"]]["maxCompletionTokens"]
    is_single = chosen["serverGpus"] == 0 or numbers["precision"] == "fp32"
    given = {
        "--base": base,
        "--max-rank": _served_rank(recipe["tuning"]["lora"]["rank"]),
        "--max-model-length": numbers["maxLength"] + answer,
        "--dtype": "float32" if is_single else "bfloat16",
        "--port": ROLLOUT_PORT,
        "--gpus": chosen["serverGpus"],
        "--gpu-memory-utilization": chosen["gpuMemoryUtilization"],
    }
    return [part for name, value in given.items() for part in (name, str(value))]


def _served_rank(rank: int) -> int:
    """The smallest rank that vLLM can be started with for adapters of this rank."""
    return int(next(served for served in get_args(MaxRank) if served >= rank))


def _rollout_resources(resource_name: str, gpus: int) -> Manifest:
    """Not limited in memory: it is our own program, and the model's size is not known here."""
    taken = {resource_name: str(gpus)} if gpus else {}
    return {"requests": {"cpu": "100m", "memory": "1Gi", **taken}, **({"limits": taken} if taken else {})}
