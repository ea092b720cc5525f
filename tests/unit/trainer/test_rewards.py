"""What each builtin reward says of an answer, and that none of them can hold up a run."""

import json
import socket
import threading
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.examples import Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.questions import check_rewards
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import json_answer
from posttrain_trainer.rewards.bounded import Bounded
from posttrain_trainer.rewards.failure import PATIENCE, RewardFailed
from posttrain_trainer.scoring import Scorer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GSM8K, BOXED, TOOL_CALL = {"builtin": "gsm8k"}, {"builtin": "boxed"}, {"builtin": "tool_call"}
JSON_SCHEMA = {"builtin": "json_schema", "jsonSchema": CITY}
DATE = {"builtin": "regex", "pattern": r"\d{4}-\d\d-\d\d"}
LENGTH, REPETITION = {"builtin": "length", "maxCharacters": 10}, {"builtin": "repetition"}
WORKED = "Half of 36 is 18.\n#### 18"
CALL = '{"name": "add", "arguments": {"a": 1, "b": [2, null]}}'
OTHER_CALL = '{"name": "add", "arguments": {"a": 2, "b": [2, null]}}'
OPENAI = json.dumps(
    {"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"b":[2,null],"a":1.0}'}}]}
)


def tagged(*calls: str) -> str:
    return "".join(f"<tool_call>\n{call}\n</tool_call>\n" for call in calls)


def scorer(*rewards: dict[str, Any]) -> Scorer:
    given = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": list(rewards)}
    return Scorer(builders.run(Path("/base"), Path("/rows.jsonl"), environment=given), Places(), "cpu")


def prompt(gold: str | None, columns: dict[str, Any] | None = None) -> Prompt:
    return Prompt(1, [{"role": "user", "content": "?"}], array("i"), gold, columns or {})


def scores(reward: dict[str, Any], answers: Sequence[str], gold: str | None, **columns: Any) -> list[float | None]:
    return [found.total for found in scorer(reward).score([(prompt(gold, columns), answer) for answer in answers])]


@pytest.mark.parametrize(
    ("reward", "gold", "expected"),
    [
        pytest.param(
            GSM8K,
            WORKED,
            {
                "<answer>18</answer>": 1.1,
                "It is 18: <answer> $18.00 </answer>": 1.1,
                "<answer>18</answer> and again <answer>18</answer>": 1.1,
                "<answer>17</answer>": 0.1,
                "<answer>eighteen</answer>": 0.1,
                "<answer>17 18 19</answer>": 0.1,
                "<answer>17</answer> 18": 0.1,
                "<answer>１８</answer>": 0.1,
                "18": 0.0,
                "<answer>18": 0.0,
                "<answer>17</answer><answer>18</answer>": 0.0,
                "<answer><answer>18</answer>": 0.0,
                "": 0.0,
            },
            id="gsm8k",
        ),
        pytest.param({"builtin": "numeric"}, "18", {"So 18": 1.0, "１８": 0.0, "17, 18, 19": 0.0}, id="numeric"),
        pytest.param(
            BOXED,
            r"\frac{1}{2}",
            {
                r"\boxed{0.5}": 1.0,
                r"So $\boxed{\frac{2}{4}}$.": 1.0,
                r"not \boxed{3} but \boxed{1/2}": 1.0,
                r"\boxed{1/2} or \boxed{3}": 0.0,
                r"\boxed{1/2, 1/3}": 0.0,
                r"\boxed{1/2": 0.0,
                "1/2": 0.0,
                "": 0.0,
            },
            id="boxed",
        ),
        pytest.param(BOXED, r"It is \boxed{x^2+2x+1}.", {r"\boxed{(x+1)^2}": 1.0, r"\boxed{x}": 0.0}, id="boxed gold"),
        pytest.param(
            TOOL_CALL,
            tagged(CALL),
            {
                tagged(CALL): 1.0,
                "I will add. " + tagged(CALL): 1.0,
                OPENAI: 1.0,
                CALL: 1.0,
                f"```json\n[{CALL}]\n```": 1.0,
                tagged(OTHER_CALL): 0.0,
                tagged(CALL, CALL): 0.0,
                tagged(CALL) + "<tool_call>": 0.0,
                CALL.replace("1", "true"): 0.0,
                CALL.replace("add", "sub"): 0.0,
                "add(1, [2, None])": 0.0,
                "[]": 0.0,
                "[" * 100_000: 0.0,
                "": 0.0,
            },
            id="tool_call",
        ),
        pytest.param(
            TOOL_CALL,
            f"[{CALL}, {OTHER_CALL}]",
            {tagged(CALL, OTHER_CALL): 1.0, tagged(OTHER_CALL, CALL): 0.0, CALL: 0.0},
            id="the order of calls",
        ),
        pytest.param(
            JSON_SCHEMA,
            None,
            {
                '{"city": "Paris"}': 1.0,
                ' {"city": "Paris", "more": [1]}\n': 1.0,
                'Here:\n```json\n{"city": "Paris"}\n```': 1.0,
                '{"city": 1}': 0.0,
                "{}": 0.0,
                'It is {"city": "Paris"}': 0.0,
                '```json\n{"city": "a"}\n```\n```json\n{"city": "b"}\n```': 0.0,
                '{"city": "Paris", "x": NaN}': 0.0,
                "": 0.0,
            },
            id="json_schema",
        ),
        pytest.param(DATE, None, {" 2026-11-21\n": 1.0, "on 2026-11-21": 0.0, "": 0.0}, id="regex"),
        pytest.param({"builtin": "regex", "pattern": "<.*>"}, None, {"<a\nb>": 1.0, "<a": 0.0}, id="regex over lines"),
        pytest.param(LENGTH, None, {"": 1.0, 10 * "a": 1.0, 15 * "a": 0.5, 20 * "a": 0.0, 99 * "a": 0.0}, id="length"),
        pytest.param(
            REPETITION, None, {"": 0.0, "a b c d e": 0.0, "a b c d a b c d": -0.2, "a " * 8: -0.8}, id="repetition"
        ),
    ],
)
def test_a_builtin_says_what_an_answer_is_worth(
    reward: dict[str, Any], gold: str | None, expected: dict[str, float]
) -> None:
    assert scores(reward, list(expected), gold) == pytest.approx(list(expected.values()))


def test_a_schema_can_be_each_rows_own() -> None:
    reward = {"builtin": "json_schema"}
    assert scores(reward, ['{"city": "a"}', "1"], None, schema=CITY) == [1.0, 0.0]
    assert scores(reward, ['{"city": "a"}', "1"], None, schema=json.dumps({"type": "number"})) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("reward", "gold", "columns", "problem"),
    [
        (GSM8K, None, {}, 'reward gsm8k needs the right answer: write "gold" or "completion"'),
        (GSM8K, "eighteen", {}, 'reward gsm8k: the right answer "eighteen" holds no number'),
        (
            {"builtin": "unit_tests"},
            None,
            {"tests": " "},
            'reward unit_tests: no Python statements in the column "tests"',
        ),
        (TOOL_CALL, "add(1)", {}, "reward tool_call: Expecting value"),
        (TOOL_CALL, '{"city": 1}', {}, "reward tool_call: a call is written as"),
        ({"builtin": "json_schema"}, None, {}, 'reward json_schema: no JSON object in the column "schema"'),
        (
            {"builtin": "json_schema"},
            None,
            {"schema": {"type": "text"}},
            "reward json_schema: the schema is no JSON Schema: \\$.type",
        ),
    ],
)
def test_a_row_that_lacks_what_a_reward_needs_is_named(
    reward: dict[str, Any], gold: str | None, columns: dict[str, Any], problem: str
) -> None:
    rows = Rows("pvc://data/rows.jsonl", [Row(7, gold=gold, columns=columns)], "sha256:0", [])
    with pytest.raises(Refused, match=f"^pvc://data/rows.jsonl: row 7: {problem}") as refused:
        check_rewards(rows, list(scorer(reward).rewards.values()))
    assert refused.value.reason == Reason.DATASET_INVALID
    if reward["builtin"] != "unit_tests":
        with pytest.raises(Refused, match=f"^row 1: {problem}"):
            scores(reward, ["1"], gold, **columns)


@pytest.mark.parametrize(
    ("reward", "problem"),
    [
        ({"builtin": "regex", "pattern": "(a"}, r"environment.rewards regex: pattern: missing \) at position 2"),
        ({"builtin": "json_schema", "jsonSchema": {"type": 3}}, "environment.rewards json_schema: the schema is no"),
    ],
)
def test_a_reward_that_means_nothing_is_refused(reward: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem) as refused:
        scorer(reward)
    assert refused.value.reason == Reason.REWARD_INVALID


FAILING = {"builtin": "json_schema", "jsonSchema": {"$ref": "http://127.0.0.1:9/schema.json"}}
CATASTROPHE = "a" * 40 + "!"


@pytest.mark.parametrize(
    ("reward", "answer", "problem"),
    [
        (
            {"builtin": "regex", "pattern": "(a|aa)+b(a|a)+$|((a+)+)+b"},
            CATASTROPHE,
            "the pattern takes more than 1 s",
        ),
        (
            {"builtin": "json_schema", "jsonSchema": {"type": "string", "pattern": "^(a|a)+$"}},
            f'"{CATASTROPHE}"',
            "the schema takes more than 3 s",
        ),
    ],
)
def test_a_catastrophic_pattern_is_a_clear_failure(reward: dict[str, Any], answer: str, problem: str) -> None:
    found = scorer(reward)
    failed, fine = found.score([(prompt(None), answer), (prompt(None), "5")])
    assert problem in failed.failed[reward["builtin"]]
    assert (failed.total, fine.total, fine.failed, found.failures) == (None, 0.0, {}, 1)


def test_an_answer_that_would_be_computed_for_hours_is_wrong_and_the_next_is_judged() -> None:
    answers = [r"\boxed{10^{10^{10}}}", r"\boxed{18}", r"\boxed{" + "(" * 2000 + "}"]
    found: list[float | None] = []
    # Not in the main thread: math-verify's own limits would need its signals.
    judging = threading.Thread(target=lambda: found.extend(scores(BOXED, answers, "18")))
    judging.start()
    judging.join(60)
    assert found == [0.0, 1.0, 0.0]


def test_a_reference_of_a_schema_opens_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        reward = {"builtin": "json_schema", "jsonSchema": {"$ref": address}}
        [failed] = scorer(reward).score([(prompt(None), "{}")])
        assert f"refers to {address}, which is not in it" in failed.failed["json_schema"]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_sum_that_lacks_a_part_is_none_and_a_reward_that_fails_on_and_on_ends_the_run() -> None:
    found = scorer(FAILING, {"builtin": "exact"}, {"builtin": "numeric", "role": "success"})
    answered = [(prompt("5"), "5")]
    for _ in range(PATIENCE - 1):
        [said] = found.score(answered)
        assert (said.each, said.total, said.success) == ({"json_schema": None, "exact": 1.0, "numeric": 1.0}, None, 1.0)
    with pytest.raises(
        RewardFailed, match=r"environment.rewards json_schema: the schema refers to .* in a row"
    ) as failed:
        found.score(answered)
    assert failed.value.reason == Reason.REWARD_FAILED


def test_a_success_that_fails_costs_no_score() -> None:
    [said] = scorer(FAILING | {"role": "success"}, {"builtin": "exact"}).score([(prompt("5"), "5")])
    assert (said.total, said.success) == (1.0, None)


@pytest.mark.parametrize("text", ["NaN", "1e999", "Infinity", "9" * 5000, "{'a': 1}", "[" * 100_000])
def test_what_is_no_json_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        json_answer.read(text)


def test_a_child_that_takes_too_long_is_ended_and_followed_by_another() -> None:
    bounded = Bounded("builtins:sum", seconds=1)
    assert bounded(range(3)) == 3
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="more than 1 s or 4 GiB"):
        bounded(range(1 << 60))
    assert time.monotonic() - began < 60
    assert bounded(range(3)) == 3
