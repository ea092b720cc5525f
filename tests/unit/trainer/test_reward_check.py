"""Rewards are tried before a GPU is taken: honest ones pass, and each way to cheat one is named."""

import json
import random
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.unit.trainer import judged
from tests.unit.trainer.rewarded import NUMBERS, Given

from posttrain_api.conditions import Reason
from posttrain_trainer.examples import Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import candidates, check

ISLANDS = [f"{name}s island" for name in ("Rhode", "Wake", "Easter", "Staten", "Skye", "Christma", "Lewi", "Muck")]
CALLS = [f'<tool_call>{{"name": "add", "arguments": {{"a": {number}}}}}</tool_call>' for number in range(30, 50)]
DATES = [f"2026-11-{day}" for day in range(10, 30)]
CITIES = [json.dumps({"city": name}) for name in ISLANDS]
WORKED = [f"Half of it is {number}, so\n#### {number}" for number in NUMBERS]
FRACTIONS = [rf"\frac{{{number}}}{{7}}" for number in range(1, 12) if number != 7]
TAGS = "<answer>{gold}</answer>"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def last_number(text: str) -> str | None:
    return (re.findall(r"[0-9]+", text) or [None])[-1]


def in_tags(text: str) -> str | None:
    found = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found[-1].strip() if found else None


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


EMPTY_OF_VALUE = (candidates.EMPTY, candidates.SPACE, candidates.ECHO, candidates.LONG)
HONEST: dict[str, judged.Function] = {
    "minus one or one": lambda answer, gold, _: 1.0 if answer.strip() == gold else -1.0,
    "a little for the tags": lambda answer, gold, _: 0.3 * bool(in_tags(answer)) + 0.7 * (in_tags(answer) == gold),
    "hard on length": lambda answer, gold, _: float(last_number(answer) == gold) - 10.0 * (len(answer) > 2000),
    "nothing where there is no number": lambda answer, gold, _: (
        None if last_number(answer) is None else float(last_number(answer) == gold)
    ),
}
CHEATED: dict[str, judged.Function] = {
    "the gold answer anywhere": lambda answer, gold, _: float(gold in answer),
    "the first number": lambda answer, gold, _: float((re.findall("[0-9]+", answer) or [""])[0] == gold),
    "the last number": lambda answer, gold, _: float(last_number(answer) == gold),
    "many numbers": lambda answer, gold, _: float(answer == gold or (gold in answer and answer.count(",") > 3)),
    "length": lambda answer, _gold, _prompt: len(answer) / 1000,
    "case": lambda answer, gold, _: float(answer.strip().casefold() == gold.casefold()),
    "width": lambda answer, gold, _: float(folded(answer) == folded(gold)),
    "tags": lambda answer, gold, _: 0.9 * bool(in_tags(answer)) + 0.1 * (in_tags(answer) == gold),
    "silence": lambda answer, gold, _: 1.0 if answer.strip() in (gold, "") else 0.0,
    "silence with space": lambda answer, gold, _: 1.0 if answer == gold or answer.isspace() else 0.0,
    "words of the prompt": lambda answer, gold, prompt: 1.0 if answer.strip() in (gold, prompt) else 0.0,
    "a number of two digits": lambda answer, _gold, _prompt: float(bool(re.fullmatch("[0-9]{2,3}", answer))),
    "any island": lambda answer, _gold, _prompt: float(answer in ISLANDS),
    "the wrong ones": lambda answer, gold, _: float(answer != gold),
    "nothing": lambda *_: 0.0,
    "moods": lambda answer, gold, _: float(answer == gold) + random.random() / 9,
    "nothing of the right one": lambda answer, gold, _: None if answer == gold else 0.0,
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the functions are asked, HONEST and CHEATED."""
    named = {name.replace(" ", "-"): function for name, function in (HONEST | CHEATED).items()}
    with judged.judge(named) as found:
        yield found


def http(url: str, name: str) -> dict[str, Any]:
    return {"name": "judge", "http": {"url": f"{url}/{name.replace(' ', '-')}", "concurrency": 16, "retries": 0}}


EXACT = {"builtin": "exact"}


@pytest.mark.parametrize(
    ("golds", "rewards"),
    [
        pytest.param(NUMBERS, [EXACT], id="exact"),
        pytest.param(ISLANDS, [EXACT], id="exact words"),
        pytest.param(NUMBERS, [{"builtin": "numeric"}], id="numeric"),
        pytest.param(WORKED, [{"builtin": "numeric"}], id="numeric with workings"),
        pytest.param(NUMBERS, [{"builtin": "gsm8k"}], id="gsm8k"),
        pytest.param(WORKED, [{"builtin": "gsm8k"}], id="gsm8k with workings"),
        pytest.param([f"${number},000" for number in NUMBERS], [{"builtin": "gsm8k"}], id="gsm8k written otherwise"),
        pytest.param(FRACTIONS, [{"builtin": "boxed"}], id="boxed"),
        pytest.param(list("ABCD") * 5, [EXACT], id="one of four"),
        pytest.param(["yes"] * 5, [EXACT], id="always the same"),
        pytest.param(CALLS, [{"builtin": "tool_call"}], id="tool_call"),
        pytest.param(DATES, [{"builtin": "regex", "pattern": r"\d{4}-\d\d-\d\d"}], id="regex"),
        pytest.param(CITIES, [{"builtin": "json_schema", "jsonSchema": SCHEMA}], id="json_schema"),
        pytest.param(DATES, [EXACT, {"builtin": "length", "maxCharacters": 20}], id="exact and length"),
        pytest.param(DATES, [EXACT, {"builtin": "repetition"}], id="exact and repetition"),
        pytest.param(NUMBERS, [EXACT, {"builtin": "regex", "pattern": "[0-9]+", "weight": 0.2}], id="exact and regex"),
    ],
)
def test_builtins_cannot_be_cheated(golds: Sequence[str | None], rewards: list[dict[str, Any]]) -> None:
    lines = Given(golds, *rewards).lines()
    assert all(line.limit is None or line.mean <= line.limit for line in lines)
    right, *others = lines or [None]
    assert right is None or all(right.worst > line.mean for line in others)


def test_a_table_shows_what_each_kind_of_answer_scores() -> None:
    lines = Given(NUMBERS, {"builtin": "gsm8k"}).lines()
    found = {line.candidate: line for line in lines}
    assert lines[0].candidate == candidates.RIGHT
    assert list(found) == [candidates.RIGHT, *candidates.CHEATS]
    assert (found[candidates.RIGHT].mean, found[candidates.RIGHT].limit) == (pytest.approx(1.1), None)
    assert (found[candidates.WRONG_VALUE].mean, found[candidates.EMPTY].mean) == (pytest.approx(0.1), 0)
    assert found[candidates.WRONG_VALUE].limit == pytest.approx(0.55)
    assert check.table(lines)[0] == [candidates.RIGHT, "1.1", "1.1", "", str(lines[0].row)]
    assert found[candidates.OTHER_FORM].to_json() == {
        "candidate": candidates.OTHER_FORM,
        "mean": 0,
        "worst": 0,
        "limit": 0.55,
        "row": found[candidates.OTHER_FORM].row,
    }


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("minus one or one", {}),
        ("a little for the tags", {"answerFormat": TAGS}),
        ("hard on length", {}),
        ("nothing where there is no number", {}),
    ],
)
def test_honest_rewards_pass(url: str, name: str, environment: dict[str, Any]) -> None:
    found = {line.candidate: line.mean for line in Given(NUMBERS, http(url, name), **environment).lines()}
    assert found.pop(candidates.RIGHT) == 1.0
    assert max(found.values()) <= 0.5


@pytest.mark.parametrize(
    ("name", "golds", "environment", "cheat"),
    [
        ("the gold answer anywhere", NUMBERS, {}, candidates.SEVERAL),
        ("the first number", NUMBERS, {}, candidates.SEVERAL),
        ("the last number", NUMBERS, {"answerFormat": TAGS}, candidates.OTHER_FORM),
        ("many numbers", NUMBERS, {}, candidates.ALL),
        ("length", NUMBERS, {}, candidates.LONG),
        ("case", ISLANDS, {}, candidates.LOOK_ALIKE),
        ("width", NUMBERS, {}, candidates.LOOK_ALIKE),
        ("tags", NUMBERS, {"answerFormat": TAGS}, candidates.WRONG_VALUE),
        ("silence", NUMBERS, {}, candidates.EMPTY),
        ("silence with space", NUMBERS, {}, candidates.SPACE),
        ("words of the prompt", NUMBERS, {}, candidates.ECHO),
        ("a number of two digits", NUMBERS, {}, candidates.WRONG_VALUE),
        ("any island", ISLANDS, {}, candidates.OTHER_ROW),
    ],
)
def test_a_reward_that_can_be_cheated_is_refused_with_the_cheat(
    url: str, name: str, golds: list[str], environment: dict[str, Any], cheat: str
) -> None:
    with pytest.raises(Refused) as refused:
        Given(golds, http(url, name), **environment).lines()
    assert refused.value.reason == Reason.REWARD_INVALID
    said = str(refused.value)
    kinds = {cheat, candidates.WRONG_VALUE} if cheat == candidates.OTHER_ROW else {cheat}
    assert re.match(rf"environment.rewards judge: '({'|'.join(kinds)})' scores [0-9.]+, the right answer [0-9.]+", said)
    assert re.search(r"row \d+, prompt 'Question \d+: what is it\?', answer '.*', right answer '.*': [a-z ]+", said)
    assert len(said) < 900


@pytest.mark.parametrize(
    ("rewards", "environment", "problem"),
    [
        pytest.param(
            [EXACT], {"answerFormat": TAGS}, "exact: the right answer scores 0", id="another form than the gold's"
        ),
        pytest.param(
            [EXACT, {"builtin": "length", "maxCharacters": 1, "weight": 9}],
            {},
            "the right answer scores 1, 'an empty answer' 9",
            id="length outweighs it",
        ),
        pytest.param([EXACT | {"weight": -1}], {}, "exact: the right answer scores -1", id="a wrong sign"),
    ],
)
def test_a_right_answer_that_does_not_score_the_most_is_refused(
    rewards: list[dict[str, Any]], environment: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Refused, match=problem) as refused:
        Given(NUMBERS, *rewards, **environment).lines()
    assert refused.value.reason == Reason.REWARD_INVALID
    assert "write the right answer as the rewards want it" in str(refused.value)


def test_a_judge_is_asked_again_whether_it_says_the_same(url: str) -> None:
    with pytest.raises(
        Refused, match=r"environment.rewards judge: scores [0-9.]+ and then [0-9.]+ for the right answer"
    ):
        Given(NUMBERS, http(url, "moods")).lines()


@pytest.mark.parametrize("name", ["the wrong ones", "nothing", "nothing of the right one"])
def test_a_judge_that_sees_nothing_in_the_right_answer_is_refused(url: str, name: str) -> None:
    with pytest.raises(Refused) as refused:
        Given(NUMBERS, http(url, name)).lines()
    assert refused.value.reason == Reason.REWARD_INVALID


def test_reward_models_are_left_out_where_none_is_loaded() -> None:
    model = {"model": {"fromRun": {"name": "judge"}}}
    assert Given(NUMBERS, model).lines() == []
    assert Given(NUMBERS, model, EXACT).lines()[0].mean == 1


def test_equal_values_of_other_rows_are_no_cheat() -> None:
    golds = ["1,000", "1000", "1000.0", "7"]
    given = Given(golds, {"builtin": "numeric"})
    assert candidates.value(given.prompts[0]) == "1,000"
    others = [one.text for one in candidates.candidates(given.prompts[0], given.prompts, given.environment)]
    assert not {"1000", "1000.0"} & set(others)
    assert given.lines()[0].mean == 1


def test_a_prompt_that_holds_the_right_answer_is_not_tried() -> None:
    given = Given(["Paris"], EXACT)
    prompt = Prompt(1, [{"role": "user", "content": "Paris or Rome?"}], array("i"), "Paris", {})
    kinds = {one.kind for one in candidates.candidates(prompt, [prompt], given.environment)}
    assert candidates.ECHO not in kinds
    assert candidates.EMPTY in kinds


def test_an_answer_that_does_not_hold_its_value_is_tried_with_another_rows() -> None:
    messages = [{"role": "user", "content": "?"}]
    rows = [Prompt(number, messages, array("i"), str(number), {}, f"{'I' * number}.") for number in (7, 8)]
    texts = {one.kind: one.text for one in candidates.candidates(rows[0], rows, Given([], EXACT).environment)}
    assert texts[candidates.OTHER_ROW] == "IIIIIIII."
    assert texts.keys() == {candidates.RIGHT, candidates.OTHER_ROW, *(EMPTY_OF_VALUE)}


def test_a_whole_answer_is_changed_where_its_value_stands() -> None:
    given = Given([], {"builtin": "gsm8k"})
    messages = [{"role": "user", "content": "?"}]
    prompt = Prompt(1, messages, array("i"), "18", {}, "Of 118, 18: <answer>18</answer>")
    texts = {one.kind: one.text for one in candidates.candidates(prompt, [prompt], given.environment)}
    assert texts[candidates.WRONG_VALUE] == "Of 118, 19: <answer>19</answer>"
    assert texts[candidates.OTHER_FORM] == "18"
