"""How the demo tells of its stages, and that it never waits for ever."""

import io
import threading

import pytest
from examples.demo.stages import Stages, limited
from rich.console import Console


def test_a_stage_is_told_when_it_is_done_and_stands_in_the_table():
    console = Console(file=io.StringIO(), width=80)
    stages = Stages(console)
    with stages.stage("first"):
        pass
    with stages.stage("second", shows_itself=True):
        console.print("what it shows")
    console.print(stages.table())
    words = [line.split() for line in console.file.getvalue().splitlines()]
    assert words == [
        ["✓", "first", "0.0", "s"],
        ["second"],
        ["what", "it", "shows"],
        ["time"],
        ["stage", "seconds"],
        ["first", "0.0"],
        ["second", "0.0"],
        ["all", "0.0"],
    ]


def test_a_stage_that_fails_is_not_counted():
    stages = Stages(Console(file=io.StringIO()))
    with pytest.raises(ValueError, match="broken"), stages.stage("first"):
        raise ValueError("broken")
    assert stages.done == []


def test_what_takes_too_long_ends():
    with pytest.raises(TimeoutError, match="training took longer than 1 s"), limited(1, what="training"):
        threading.Event().wait(30)


def test_what_ends_in_time_is_left_alone():
    with limited(1, what="training"):
        pass
    assert not threading.Event().wait(1.1)
