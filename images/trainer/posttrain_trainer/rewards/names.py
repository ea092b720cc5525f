"""What each reward of an environment is called in metrics and messages."""

from collections import Counter
from collections.abc import Sequence

from posttrain_api.v1alpha1.environment import Reward


def named(rewards: Sequence[Reward]) -> dict[str, Reward]:
    """Name -> reward, in the given order; those with the same name are numbered from the second on."""
    seen: Counter[str] = Counter()
    found = {}
    for reward in rewards:
        name = reward.name or (reward.python.entrypoint.rpartition(":")[2] if reward.python else reward.kind)
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name}-{seen[name]}"] = reward
    return found
