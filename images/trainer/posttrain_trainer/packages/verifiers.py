"""verifiers:<environment>: the tasks of a taskset of the package verifiers 0.4, scored by their own rewards.

Such a reward judges a whole rollout. Ours is one answer to one prompt, so what needs more, as tools, a container, a
judge or several agents do, is refused.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from posttrain_trainer.packages import foreign
from posttrain_trainer.packages.scores import of_verifiers

Object = dict[str, Any]

TASK = "task"
"""The column with the package's own data of a row."""
SCORE = of_verifiers.score
COLUMNS = (TASK,)
"""What it needs of a row."""


def rows(environment: str, options: Mapping[str, Any], limit: int | None) -> list[Object]:
    """The first `limit` tasks of an environment; Refused where one is more than an answer to a prompt."""
    name = f"verifiers:{environment}"
    taskset = _taskset(environment, options)
    if limit is None and not taskset.bounded:
        raise foreign.wrong(name, "its rows have no end: write dataset.limit")
    with foreign.called(name, doing="cannot make its rows"):
        tasks = list(taskset if limit is None else taskset.take(limit))
    for task in tasks:
        if problem := next(_more_than_an_answer(environment, task), None):
            raise foreign.wrong(name, f"{problem}, and here an answer to a prompt is scored: name another environment")
    return [_row(name, task.data) for task in tasks]


def may_run_here(environment: str) -> bool:
    """Nothing is known of what an environment's rewards do."""
    del environment
    return False


def _taskset(environment: str, options: Mapping[str, Any]) -> Any:
    """The package's own taskset."""
    name = f"verifiers:{environment}"
    if find_spec("verifiers") is None or find_spec("verifiers.v1") is None:
        raise foreign.missing("verifiers 0.4", install="the package verifiers and the environment's own")
    import verifiers.v1 as vf

    with foreign.called(name, doing="cannot be imported"):
        config = vf.taskset_config_type(environment)
    with foreign.called(name, doing=f"does not take {foreign.OPTIONS} {dict(options)}"):
        return vf.load_taskset(config.model_validate({**options, "id": environment}))


def _more_than_an_answer(environment: str, task: Any) -> Iterator[str]:
    """Why a task cannot be scored by an answer alone."""
    import verifiers.v1 as vf

    kind = type(task)
    if vf.environment_class(environment) is not vf.SingleAgentEnv:
        yield "it has a course of its own, of several turns or agents"
    if kind.toolsets(task.config):
        yield "its tasks have tools"
    if kind.NEEDS_CONTAINER or task.data.image:
        yield "its tasks need a container"
    if kind.setup is not vf.Task.setup or kind.finalize is not vf.Task.finalize:
        yield "its tasks prepare a machine"
    if task.plugged_judges():
        yield "its tasks have a judge"
    if not task.hooks("reward"):
        yield "its tasks have no reward"
    if not task.data.prompt:
        yield "a task has no prompt"


def _row(name: str, data: Any) -> Object:
    """A row: the prompt as messages, the right answer where the data have one, and the data."""
    messages = [{"role": "user", "content": data.prompt}] if isinstance(data.prompt, str) else None
    messages = messages or [message.model_dump(mode="json", exclude_none=True) for message in data.prompt]
    if any(not isinstance(message["content"], str) for message in messages):
        raise foreign.wrong(name, "a prompt has pictures, which no model here reads: name another environment")
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    answer = getattr(data, "answer", None)
    gold = {} if answer is None else {"gold": str(answer)}
    return {"prompt": [*system, *messages], **gold, TASK: data.model_dump(mode="json", exclude_defaults=True)}
