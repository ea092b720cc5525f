"""The rewards of a verifiers task, added with its weights. They read what a model wrote, so this runs where foreign
code runs: alone in this folder, without anything else of ours."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any


async def score(
    completions: Sequence[str],
    task: Sequence[Mapping[str, Any]],
    environment: Sequence[str],
    options: Sequence[Mapping[str, Any]],
    **_: Any,
) -> list[float]:
    """What each row's task of `environment` says of its answer."""
    import verifiers.v1 as vf

    config = vf.taskset_config_type(environment[0])
    taskset = vf.load_taskset(config.model_validate({**options[0], "id": environment[0]}))
    kind = type(taskset).task_type()

    async def one(answer: str, data: Mapping[str, Any]) -> float:
        return await _scored(vf, kind(kind.data_type().model_validate(data), taskset.config.task), answer)

    return list(await asyncio.gather(*map(one, completions, task)))


async def _scored(vf: Any, task: Any, answer: str) -> float:
    """A rollout of one question and one answer, as the task's rewards want to see it."""
    asked = vf.MessageNode(message=vf.UserMessage(content=task.data.prompt_text))
    said = vf.MessageNode(parent=0, message=vf.AssistantMessage(content=answer), sampled=True)
    agent = vf.AgentInfo(config=vf.AgentConfig())
    about = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
    trace = vf.Trace(task=about, agent=agent, nodes=[asked, said], is_completed=True, ok=True, stop_condition="stop")
    await task.score(trace)
    return float(trace.reward)
