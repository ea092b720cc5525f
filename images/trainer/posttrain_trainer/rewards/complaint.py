"""How a reward that cannot be taken is complained of: with the row, the prompt, the answer, and what to change."""

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import candidates
from posttrain_trainer.rewards.candidates import Candidate

_MAX_SHOWN = 160


def refused(name: str, what: str, candidate: Candidate, advice: str) -> Refused:
    """What is wrong with a reward, where it shows, and what to change."""
    prompt = candidate.prompt
    asked = shown(str(prompt.messages[-1]["content"]))
    told = "" if prompt.right is None or candidate.kind == candidates.RIGHT else f", right answer {shown(prompt.right)}"
    return Refused(
        Reason.REWARD_INVALID,
        f"environment.rewards {name}: {what}: row {prompt.number}, prompt {asked}, answer {shown(candidate.text)}"
        f"{told}: {advice}",
    )


def shown(text: str) -> str:
    """A text in a sentence."""
    short = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]}…{text[-_MAX_SHOWN // 2 :]}"
    return repr(short)


def number(score: float | None) -> str:
    """A score in a sentence."""
    return "nothing" if score is None else f"{score:.6g}"
