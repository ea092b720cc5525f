"""What rewards.py and the rows must hold to."""

import json
from pathlib import Path

from rewards import score

ROWS = [json.loads(line) for line in Path(__file__).with_name("data.jsonl").read_text().splitlines()]


def scored(*answers: str) -> list[float]:
    """What answers to one prompt score."""
    return score(["Write double(x)."] * len(answers), list(answers), function=["double"] * len(answers))


def test_the_right_answer_of_every_row_scores_the_most() -> None:
    answers, names = [row["completion"] for row in ROWS], [row["function"] for row in ROWS]
    assert score([row["prompt"] for row in ROWS], answers, function=names) == [1.0] * len(ROWS)


def test_every_row_passes_its_own_tests() -> None:
    for row in ROWS:
        code = row["completion"].removeprefix("```python\n").removesuffix("```")
        exec(f"{code}\n{row['tests']}", {})


def test_what_is_not_the_function_alone_scores_nothing() -> None:
    right = "def double(x):\n    return 2 * x"
    blocks = (f"```python\n{right}\nprint(1)\n```", "```python\ndef half(x): ...\n```", "```python\ndef (\n```")
    assert scored("", right, *blocks) == [0.0] * 5
