"""lm-eval:<task>: tasks of the lm-evaluation-harness, from files that the recipe gives. Nothing is fetched."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.evaluation import LM_EVAL, LmEval
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused

_TASK = re.compile(r"""\btask:\s*["']?([A-Za-z0-9_.-]+)""")
"""How a task's file names it. It may hold tags of the harness's own, so it is not parsed as YAML."""
_OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}


def measure(model: Any, tokenizer: Any, given: LmEval, metrics: Sequence[str], places: Places) -> Metrics:
    """The first metric of each task among metrics; Refused where a task is not there or cannot be run offline.

    A task's files name their data relative to the task's folder.
    """
    wanted = [metric for metric in metrics if metric.startswith(LM_EVAL)]
    if not wanted:
        return {}
    source, folder = _folder(given, places)
    os.environ.update(_OFFLINE)
    with contextlib.chdir(folder):
        tasks = _tasks(folder, source, [metric.removeprefix(LM_EVAL) for metric in wanted])
        return {f"{LM_EVAL}{name}": _value(model, tokenizer, task, given.limit) for name, task in tasks.items()}


def check(given: LmEval | None, metrics: Sequence[str], places: Places) -> None:
    """Refused where no file names a task among metrics: told by the files alone, without the harness."""
    if given is None:
        return
    source, folder = _folder(given, places)
    texts = [path.read_text(errors="replace") for path in sorted(folder.rglob("*.y*ml"))]
    known = sorted({name for text in texts for name in _TASK.findall(text)})
    for metric in metrics:
        if metric.startswith(LM_EVAL) and metric.removeprefix(LM_EVAL) not in known:
            raise _no_such_task(metric.removeprefix(LM_EVAL), source, known)


def _folder(given: LmEval, places: Places) -> tuple[str, Path]:
    if given.config_map is not None:
        source, folder = f"ConfigMap {given.config_map.name}", places.config_maps / given.config_map.name
    else:
        assert given.uri is not None
        source, folder = given.uri, places.path(given.uri)
    if not folder.is_dir():
        raise Refused(Reason.EVALUATION_INVALID, f"evaluation.lmEval: {source}: there is no such folder")
    return source, folder


def _tasks(folder: Path, source: str, names: Sequence[str]) -> dict[str, Any]:
    # The harness takes seconds to import.
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    known = manager.all_subtasks
    for name in names:
        if name not in known:
            raise _no_such_task(name, source, known)
    return {name: _loaded(manager, name) for name in names}


def _no_such_task(name: str, source: str, known: Sequence[str]) -> Refused:
    offered = f"it has {', '.join(known)}" if known else "it has none: give files such as task.yaml"
    return Refused(Reason.EVALUATION_INVALID, f"evaluation.metrics: {LM_EVAL}{name}: no task in {source}: {offered}")


def _loaded(manager: Any, name: str) -> Any:
    try:
        return manager.load([name])["tasks"][name]
    except Exception as error:  # A task is a program of its own: whatever it does wrong, the user must read of it.
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(
            Reason.EVALUATION_INVALID,
            f"evaluation.metrics: {LM_EVAL}{name} cannot be loaded, and nothing is fetched: {text}: "
            "put its data beside it, as dataset_path: json and dataset_kwargs.data_files",
        ) from error


def _value(model: Any, tokenizer: Any, task: Any, limit: int | None) -> float | None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8),
        tasks=[task],
        limit=limit,
        bootstrap_iters=0,
        log_samples=False,
    )
    values = next(iter(found["results"].values()))
    first = next(value for name, value in values.items() if "," in name and "_stderr" not in name)
    return float(first)
