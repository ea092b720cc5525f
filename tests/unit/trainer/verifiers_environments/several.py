"""Sums with a course of their own."""

import verifiers.v1 as vf
from adding import Adding


class Twice(vf.Env[vf.SingleAgentEnvConfig]):
    """Each is answered twice."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Two answers."""
        await agents.agent.run(task)
        await agents.agent.run(task)


__all__ = ["Adding", "Twice"]
