"""What rewards.py must hold to."""

import json
from pathlib import Path

from rewards import FORM, score

ROWS = [json.loads(line) for line in Path(__file__).with_name("data.jsonl").read_text().splitlines()]


def scored(*answers: str, gold: str = "42") -> list[float]:
    """What answers to one prompt score."""
    return score(["What is 40 + 2?"] * len(answers), list(answers), [gold] * len(answers))


def test_the_right_answer_of_every_row_scores_the_most() -> None:
    answers = [f"<answer>{row['gold']}</answer>" for row in ROWS]
    found = score([row["prompt"] for row in ROWS], answers, [str(row["gold"]) for row in ROWS])
    assert found == [1.0] * len(ROWS)


def test_a_wrong_number_in_the_right_form_scores_for_its_form() -> None:
    assert scored("<answer>41</answer>") == [FORM]


def test_what_has_not_the_form_scores_nothing() -> None:
    assert scored("", " ", "42", "<answer>42", "<answer>forty-two</answer>") == [0.0] * 5


def test_several_answers_score_nothing() -> None:
    assert scored("<answer>41</answer> <answer>42</answer>", "<answer>41, 42</answer>") == [0.0] * 2
