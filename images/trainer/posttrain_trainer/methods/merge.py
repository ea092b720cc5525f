"""Adapters of one base combined into one, without training."""

from typing import Any

import torch
from peft import PeftModel

from posttrain_api.v1alpha1.methods import Merge
from posttrain_trainer import adapters
from posttrain_trainer.job import Job

_COMBINATIONS = {"ties": "ties_svd", "dareTies": "dare_ties_svd", "dareLinear": "dare_linear_svd"}
"""Ours -> PEFT's. Its plain forms combine the matrices A and B apart, which adds products of different adapters."""
_RESULT = "default"


def combined(bare: Any, job: Job) -> PeftModel:
    """The base with one adapter made of all; Refused where one is damaged or was trained on another base."""
    chosen = job.recipe.merge
    assert chosen is not None
    torch.manual_seed(job.recipe.hyperparameters.seed)
    adapters.check(job.config, job.places, job.task.base)
    folders = [job.places.path(source.uri) for source in adapters.to_merge(job.config)]
    names = [f"adapter-{place}" for place in range(len(folders))]
    tuned = PeftModel.from_pretrained(bare, str(folders[0]), adapter_name=names[0])
    for name, folder in zip(names[1:], folders[1:], strict=True):
        tuned.load_adapter(str(folder), adapter_name=name)
    _combine(tuned, names, chosen)
    for name in names:
        tuned.delete_adapter(name)
    return tuned.eval()


def _combine(tuned: PeftModel, names: list[str], chosen: Merge) -> None:
    exact = "cat" if chosen.rank is None else "svd"
    # PEFT takes the new adapter's settings from the first: its scale must be alpha / rank, and nothing else.
    tuned.peft_config[names[0]].use_rslora = False
    tuned.base_model.add_weighted_adapter(
        names,
        [run.weight for run in chosen.runs],
        _RESULT,
        combination_type=_COMBINATIONS.get(chosen.combination, exact),
        svd_rank=chosen.rank,
        svd_full_matrices=False,
        density=chosen.density,
    )
    tuned.set_adapter(_RESULT)
