"""The demo's facts and tasks: right, repeatable, and nothing held out is ever taught."""

import json
import random
import re
from itertools import islice
from pathlib import Path

import pytest
from examples.demo import data, tasks
from examples.demo.facts import DATES, KINDS, NUMBERS, Fact, Kind
from examples.demo.recipe import Recipe, key_of, lines
from examples.demo.tasks import DATES_TASK, NUMBERS_TASK, TASKS, Row, Task

MAX_CONFIG_MAP_BYTES = 1024 * 1024


@pytest.mark.parametrize(
    ("kind", "key", "facts"),
    [
        (DATES, 739_576, [Fact("21 November 2025", "2025-11-21"), Fact("November 21, 2025", "2025-11-21")]),
        (NUMBERS, 305, [Fact("three hundred and five", "305")]),
        (NUMBERS, 0, [Fact("zero", "0")]),
    ],
    ids=["a date in both forms", "a number", "the smallest number"],
)
def test_a_fact_is_right_in_every_form(kind: Kind, key: int, facts: list[Fact]):
    generator = random.Random(1)
    assert {kind.fact(key, generator=generator) for _ in range(20)} == set(facts)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_tenth_is_held_out_and_the_rest_is_taught(kind: Kind):
    held_out, taught = set(kind.held_out_keys), set(kind.taught_keys)
    assert held_out.isdisjoint(taught)
    assert held_out | taught == set(kind.keys)
    assert len(held_out) / len(kind.keys) == pytest.approx(0.1, abs=0.02)


def test_no_number_is_held_out_that_others_do_not_tell():
    assert not [number for number in NUMBERS.held_out_keys if number <= 100 or number % 100 == 0]


def test_the_base_reads_nothing_that_is_held_out():
    text = "".join(islice(lines(Recipe()), 5000))
    held_out = {NUMBERS.fact(key, generator=random.Random(0)).written for key in NUMBERS.held_out_keys}
    held_out |= {form(key) for form in DATES.forms for key in DATES.held_out_keys}
    read = set(re.findall(r"^(.+?)(?: is |, or | can be )", text, flags=re.MULTILINE))
    assert len(read) > 1000
    assert read.isdisjoint(held_out)


def test_another_recipe_has_another_key_and_the_same_the_same():
    assert key_of(Recipe()) == key_of(Recipe())
    assert key_of(Recipe()) != key_of(Recipe(seed=2))
    assert key_of(Recipe()) != key_of(Recipe(steps=1))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_training_held_out_and_fresh_rows_share_no_question(task: Task):
    rows = (task.train_rows(), task.held_out_rows(), task.fresh_rows(8))
    train, held_out, fresh = ({row.question for row in part} for part in rows)
    assert (len(held_out), len(fresh)) == (tasks.NUM_HELD_OUT_ROWS, 8)
    assert train.isdisjoint(held_out | fresh)
    assert held_out.isdisjoint(fresh)


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        (
            DATES_TASK,
            Row("Write as an ISO date: May 3, 2021.", "2021-05-03"),
            {
                "messages": [
                    {"role": "user", "content": "Write as an ISO date: May 3, 2021."},
                    {"role": "assistant", "content": "2021-05-03"},
                ]
            },
        ),
        (
            NUMBERS_TASK,
            Row("Write in digits: twelve.", "12"),
            {"prompt": "Write in digits: twelve.", "completion": "12"},
        ),
    ],
    ids=["dates as messages", "numbers as prompt and completion"],
)
def test_each_task_shows_another_format(task: Task, row: Row, expected: dict[str, object]):
    assert task.as_json(row) == expected


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_files_hold_the_rows_and_are_the_same_each_time(task: Task):
    files = task.files()
    assert files == task.files()
    held_out = [json.loads(line) for line in files[tasks.HELD_OUT_FILE].splitlines()]
    assert held_out == [task.as_json(row) for row in task.held_out_rows()]
    assert len(files[tasks.TRAIN_FILE].splitlines()) == tasks.NUM_TRAIN_ROWS


def test_the_dates_fit_into_a_config_map():
    assert sum(len(text.encode()) for text in DATES_TASK.files().values()) < MAX_CONFIG_MAP_BYTES


def test_files_that_are_right_are_left_alone(tmp_path: Path):
    data.write(NUMBERS_TASK, tmp_path)
    before = (tmp_path / tasks.TRAIN_FILE).stat()
    (tmp_path / tasks.HELD_OUT_FILE).write_text("cut of")
    data.write(NUMBERS_TASK, tmp_path)
    assert (tmp_path / tasks.TRAIN_FILE).stat() == before
    assert (tmp_path / tasks.HELD_OUT_FILE).read_text() == NUMBERS_TASK.files()[tasks.HELD_OUT_FILE]
