"""The reward boxed: whether what stands in the last \\boxed{...} is mathematically equal to the gold answer."""

from posttrain_trainer.rewards.bounded import Bounded

_MAX_CHARACTERS = 1000
"""No right answer is so long; what parses it takes time that grows faster than the length."""
_SECONDS = 3


class Boxed:
    """Compares answers, each within a few seconds: one that takes longer is not equal."""

    def __init__(self) -> None:
        self._is_equal = Bounded("posttrain_trainer.rewards.mathematics:is_equal", seconds=_SECONDS)

    def __call__(self, answer: str, gold: str) -> float:
        """1 where the answer's box holds the gold answer, else 0."""
        box = content(answer)
        if box is None or len(box) > _MAX_CHARACTERS:
            return 0.0
        try:
            return float(self._is_equal(content(gold) or gold, box))
        except TimeoutError:
            return 0.0


def content(text: str) -> str | None:
    """What stands in the last box of a text; None where there is no whole box."""
    begin = text.rfind(r"\boxed{")
    if begin < 0:
        return None
    depth = 0
    for place in range(begin + len(r"\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin + len(r"\boxed{") : place]
    return None
