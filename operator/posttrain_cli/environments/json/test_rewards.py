"""What rewards.py must hold to."""

import json
from pathlib import Path

from rewards import FORM, right, score

ROWS = [json.loads(line) for line in Path(__file__).with_name("data.jsonl").read_text().splitlines()]
GOLD = '{"name": "Anna", "age": 31}'


def scored(*answers: str) -> list[float]:
    """What answers to one prompt score."""
    return score(["Anna is 31 years old."] * len(answers), list(answers), [GOLD] * len(answers))


def test_the_right_answer_of_every_row_scores_the_most() -> None:
    golds = [json.dumps(row["gold"]) for row in ROWS]
    assert score([row["prompt"] for row in ROWS], golds, golds) == [1.0] * len(ROWS)


def test_order_and_space_do_not_count() -> None:
    assert scored('{"age":31,"name":"Anna"}\n') == [1.0]


def test_wrong_values_under_the_right_keys_score_for_their_form() -> None:
    assert scored('{"name": "Anna", "age": 13}', '{"name": "Anna", "age": "31"}') == [FORM, FORM]


def test_what_is_not_that_json_scores_nothing() -> None:
    assert scored("", "Anna is 31.", f"{GOLD} {GOLD}", f"[{GOLD}]", '{"name": "Anna"}') == [0.0] * 5


def test_success_is_the_right_json_alone() -> None:
    assert right(["", ""], [GOLD, '{"name": "Anna", "age": 13}'], [GOLD, GOLD]) == [1.0, 0.0]
