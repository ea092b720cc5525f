"""What a recipe names of claims, ConfigMaps and Secrets, as the trainer's volumes and mounts. Pure.

Code that is not ours is no part of it: only the container that runs it has that (sidecars.py).
"""

from collections.abc import Mapping

from posttrain_api.trainer_contract import RUN_FOLDER, TOKENS_FOLDER
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.environment import Dataset, Environment
from posttrain_api.v1alpha1.training_run import TrainingRun, TrainingRunSpec
from posttrain_operator import pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.training_run import names

RUN_VOLUME = "run"
TOKENS_VOLUME = "posttrain-tokens"


def volumes(run: TrainingRun, config: Manifest) -> list[Manifest]:
    """The volumes that the trainer's mounts name."""
    recipe = names.recipe(run.metadata.name, int(config.get("round", 0)))
    return [
        {"name": RUN_VOLUME, "configMap": {"name": recipe}},
        *map(pod_template.config_map_volume, _config_maps(run.spec)),
        *map(pod_template.claim_volume, _claims(run.spec, config)),
        *_tokens_volume(run.spec.environment),
        *pod_template.scratch_volumes(run.spec.resources.shared_memory),
    ]


def mounts(spec: TrainingRunSpec, config: Manifest) -> list[Manifest]:
    """What the trainer sees: each claim once, and only the output's can be written."""
    claims = _claims(spec, config).items()
    tokens = [pod_template.mount(TOKENS_VOLUME, str(TOKENS_FOLDER), read_only=True)]
    return [
        pod_template.mount(RUN_VOLUME, str(RUN_FOLDER), read_only=True),
        *map(pod_template.config_map_mount, _config_maps(spec)),
        *(pod_template.claim_mount(claim, read_only=read_only) for claim, read_only in claims),
        *(tokens if _tokens(spec.environment) else []),
        *pod_template.scratch_mounts(),
    ]


def _config_maps(spec: TrainingRunSpec) -> list[str]:
    """Names of the ConfigMaps that a recipe reads, each once."""
    template, tasks = spec.environment.chat_template, spec.evaluation.lm_eval
    references = (
        *(dataset.config_map for dataset in _datasets(spec)),
        template.config_map if template else None,
        tasks.config_map if tasks else None,
    )
    return sorted({reference.name for reference in references if reference})


def _datasets(spec: TrainingRunSpec) -> list[Dataset]:
    retention = spec.evaluation.retention
    found = (spec.environment.dataset, spec.evaluation.dataset, retention.dataset if retention else None)
    return [dataset for dataset in found if dataset]


def _claims(spec: TrainingRunSpec, config: Manifest) -> dict[str, bool]:
    """The claims of a recipe, each once, and whether they are read only: all but the output."""
    sources: Mapping[str, Manifest] = config.get("sources", {})
    read = (
        spec.base_model.uri,
        *(dataset.uri for dataset in _datasets(spec)),
        spec.distill.teacher.uri if spec.distill else None,
        spec.evaluation.lm_eval.uri if spec.evaluation.lm_eval else None,
        *(source["uri"] for source in sources.values()),
    )
    read_claims = {claim: True for claim in map(claim_of, filter(None, read)) if claim}
    output = claim_of(spec.output.uri)
    assert output is not None, "an output is always on a claim"
    return dict(sorted({**read_claims, output: False}.items()))


def _tokens_volume(environment: Environment) -> list[Manifest]:
    sources = _tokens(environment)
    # Readable for our group: a secret's files belong to root.
    return [{"name": TOKENS_VOLUME, "projected": {"defaultMode": 0o440, "sources": sources}}] if sources else []


def _tokens(environment: Environment) -> list[Manifest]:
    """The token of each judge as the file <place of the reward>/token, and nothing else of its Secret."""
    judges = ((index, reward.http) for index, reward in enumerate(environment.rewards))
    return [
        {"secret": {"name": judge.token.name, "items": [{"key": judge.token.key, "path": f"{index}/token"}]}}
        for index, judge in judges
        if judge and judge.token
    ]
