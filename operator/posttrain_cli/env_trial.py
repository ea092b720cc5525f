"""`kubectl posttrain env test`: everything that can be known of an environment without a cluster and without a GPU."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from posttrain_api.environment_report import EnvironmentReport, Finding
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1 import training_run
from posttrain_api.v1alpha1.environment import Reward
from posttrain_api.v1alpha1.training_run import Output, TrainingRun
from posttrain_cli import documents, env_report, kustomization, trainer_process
from posttrain_cli.documents import Document
from posttrain_cli.estimate import Here
from posttrain_cli.failure import Failure
from posttrain_cli.faults import faults, parsed
from posttrain_cli.workplace import OUTPUT_CLAIM, Workplace, workplace

UID = "env-test"
MODEL_CLAIM = "posttrain-model"
"""The claim that stands for the folder of --model."""
MODEL_URI = f"pvc://{MODEL_CLAIM}/model"
NO_ENVIRONMENT = frozenset({"merge"})
"""Methods that learn from nothing."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """How the result is told."""

    console: Console
    as_json: bool = False


def try_out(files: Sequence[str], shown: Shown, here: Here, *, model: Path | None = None) -> int:
    """Print what the trainer finds of the environment of each TrainingRun of the files; 1 where something is wrong.

    model: a transformers checkpoint whose answers show whether there is a signal.
    """
    found = [*documents.read(files), *kustomization.config_maps(files)]
    runs = [document for document in found if document.is_ours and document.kind == training_run.KIND]
    if not runs:
        raise Failure(f"{', '.join(files)}: there is no TrainingRun")
    with workplace(claims=here.claims, config_maps=here.config_maps, image=here.image, documents=found) as place:
        if model is not None:
            _link(model, place)
        reports = {run.label: _report(run, place, here, shown.console, with_model=model is not None) for run in runs}
    _show(reports, shown)
    return 0 if all(report.is_good for report in reports.values()) else 1


def _link(model: Path, place: Workplace) -> None:
    """Let MODEL_URI be this folder."""
    if not (model / "config.json").is_file():
        raise Failure(f"--model {model}: this is no transformers checkpoint: name a folder with a config.json")
    (place.claims / MODEL_CLAIM).mkdir()
    (place.claims / MODEL_CLAIM / "model").symlink_to(model.resolve())


def _report(run: Document, place: Workplace, here: Here, console: Console, *, with_model: bool) -> EnvironmentReport:
    """What is found of one run: of its manifest here, of its environment by the trainer."""
    wrong = [str(fault) for fault in faults(run)]
    if wrong:
        return _only(Finding(what="manifest", verdict="wrong", message="; ".join(wrong)))
    manifest = Finding(what="manifest", verdict="ok", message=f"a {run.content['spec']['method']} run")
    try:
        config, left_out = run_config(run)
        place.check_has({"environment": config.recipe.environment.to_json(), "evaluation": _held_out(config)})
        with console.status(f"{run.label}: trying its environment"):
            found = trainer_process.environment_test(config, place, python=here.python, with_model=with_model)
    except Failure as problem:
        return _only(manifest, Finding(what="environment", verdict="wrong", message=str(problem)))
    return _only(manifest, *left_out, *found.findings)


def _only(*findings: Finding) -> EnvironmentReport:
    return EnvironmentReport(findings=list(findings))


def _held_out(config: RunConfig) -> Object:
    dataset = config.recipe.evaluation.dataset
    return {} if dataset is None else dataset.to_json()


def run_config(run: Document) -> tuple[RunConfig, list[Finding]]:
    """What a trainer is told of a run whose models are not here, and what is left out for that; Failure where it
    learns from what another run is yet to make."""
    method, content = run.content["spec"]["method"], deepcopy(run.content)
    if method in NO_ENVIRONMENT:
        raise Failure(f"method {method} has no environment to try")
    for name in _rows_of_others(content["spec"]):
        raise Failure(f"the rows that {name} keeps are not here before it has run: name other rows")
    content["spec"]["baseModel"] = {"uri": MODEL_URI, "tuned": True}
    if "distill" in content["spec"]:
        content["spec"]["distill"]["teacher"] = {"uri": MODEL_URI}
    read = parsed(Document(run.place, content))
    assert isinstance(read, TrainingRun)
    recipe = read.spec.recipe().replace(output=Output(uri=f"pvc://{OUTPUT_CLAIM}"))
    kept = [reward for reward in recipe.environment.rewards if not _is_elsewhere(reward)]
    left_out = [_not_here(reward) for reward in recipe.environment.rewards if _is_elsewhere(reward)]
    recipe = recipe.replace(environment=recipe.environment.replace(rewards=kept))
    return RunConfig(name=run.name, uid=UID, recipe=recipe), left_out


def _rows_of_others(spec: Mapping[str, Any]) -> list[str]:
    datasets = [spec["environment"]["dataset"], spec.get("evaluation", {}).get("dataset", {})]
    return [dataset["fromRun"]["name"] for dataset in datasets if "fromRun" in dataset]


def _is_elsewhere(reward: Reward) -> bool:
    """Whether it scores by what only the cluster has: another run's model, or a judge."""
    return reward.model is not None or reward.http is not None


def _not_here(reward: Reward) -> Finding:
    what = f"the reward model of {reward.model.from_run.name}" if reward.model else "a judge that is asked by HTTP"
    return Finding(what="rewards", verdict="skipped", message=f"{what} is not here: answers are tried with the others")


def _show(reports: Mapping[str, EnvironmentReport], shown: Shown) -> None:
    if shown.as_json:
        print(json.dumps({label: report.to_json() for label, report in reports.items()}, indent=2, ensure_ascii=False))
        return
    for label, report in reports.items():
        shown.console.print(Text(label, "bold cyan"))
        for part in env_report.parts(report):
            shown.console.print(part, soft_wrap=isinstance(part, Text))
