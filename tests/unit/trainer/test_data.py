"""Reading a dataset: what each format becomes, and how each wrong row is named."""

import hashlib
import json
from pathlib import Path

import pytest

from posttrain_api.conditions import Reason
from posttrain_trainer import data, formats
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.refusal import Refused

FORMATS = 'write "messages", or "prompt" and "completion", or "instruction" and "output", or "text"'
GOOD = '{"text": "fine"}\n'
EXCHANGE = [{"role": "user", "content": "Double 2"}, {"role": "assistant", "content": "4"}]


def read(folder: Path, content: str | bytes) -> Rows:
    path = folder / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.read("pvc://data/rows.jsonl", path, formats.conversation)


@pytest.mark.parametrize(
    ("line", "row"),
    [
        pytest.param({"messages": EXCHANGE}, Row(1, EXCHANGE), id="a conversation"),
        pytest.param({"prompt": "Double 2", "completion": "4"}, Row(1, EXCHANGE), id="prompt and completion"),
        pytest.param({"prompt": "Double 2", "gold": 4}, Row(1, EXCHANGE), id="prompt and gold answer"),
        pytest.param({"instruction": "Double 2", "output": "4"}, Row(1, EXCHANGE), id="alpaca without input"),
        pytest.param(
            {"instruction": "Double 2", "input": "", "output": "4"}, Row(1, EXCHANGE), id="alpaca, empty input"
        ),
        pytest.param(
            {"instruction": "Double", "input": "2", "output": "4"},
            Row(1, [{"role": "user", "content": "Double\n\n2"}, {"role": "assistant", "content": "4"}]),
            id="alpaca with input",
        ),
        pytest.param({"text": "It rains."}, Row(1, text="It rains."), id="plain text"),
        pytest.param({"messages": None, "text": "It rains."}, Row(1, text="It rains."), id="an unused column is null"),
        pytest.param({"messages": EXCHANGE, "id": 7}, Row(1, EXCHANGE), id="a further column is ignored"),
    ],
)
def test_each_format_becomes_a_row(tmp_path: Path, line: dict[str, object], row: Row) -> None:
    content = json.dumps(line)
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    assert read(tmp_path, content) == Rows("pvc://data/rows.jsonl", [row], digest, [])


@pytest.mark.parametrize(
    ("line", "row"),
    [
        pytest.param({"messages": EXCHANGE}, Row(1, EXCHANGE[:1], gold="4"), id="the last answer is the right one"),
        pytest.param({"messages": EXCHANGE, "gold": 8}, Row(1, EXCHANGE[:1], gold="8"), id="gold comes first"),
        pytest.param(
            {"messages": EXCHANGE[:1], "level": 2}, Row(1, EXCHANGE[:1], columns={"level": 2}), id="no answer"
        ),
        pytest.param({"instruction": "Double 2", "output": "4"}, Row(1, EXCHANGE[:1], gold="4"), id="alpaca"),
    ],
)
def test_a_conversation_is_a_prompt_too(line: dict[str, object], row: Row) -> None:
    found = formats.prompt(1, line)
    assert (found.messages, found.gold) == (row.messages, row.gold)
    assert row.columns.items() <= found.columns.items()


def test_an_answer_without_a_question_is_no_prompt() -> None:
    with pytest.raises(ValueError, match="an answer without a question"):
        formats.prompt(1, {"messages": EXCHANGE[1:]})


def test_a_row_has_the_number_of_its_line(tmp_path: Path) -> None:
    assert [row.number for row in read(tmp_path, f"\ufeff{GOOD}\r\n\n{GOOD}").rows] == [1, 4]


def test_messages_with_a_capital_are_read_with_a_warning(tmp_path: Path) -> None:
    rows = read(tmp_path, json.dumps({"Messages": EXCHANGE}))
    assert rows.rows == [Row(1, EXCHANGE)]
    assert rows.warnings == ['1 rows have "Messages": it was read as "messages", write it in small letters']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "the dataset is empty: write one JSON object a line", id="an empty file"),
        pytest.param("\n \n", "the dataset is empty: write one JSON object a line", id="only empty lines"),
        pytest.param(
            GOOD + '{"text": "cut\n',
            "line 2: invalid JSON: Unterminated string starting at at character 10",
            id="a line cut in its middle",
        ),
        pytest.param(
            GOOD + "{'text': 1}",
            "line 2: invalid JSON: Expecting property name enclosed in double quotes at character 2",
            id="Python instead of JSON",
        ),
        pytest.param(
            '{\n"text": "a"\n}',
            "line 1: invalid JSON: Expecting property name enclosed in double quotes at character 2: "
            "write JSON Lines, one whole object a line; line 2: invalid JSON: Extra data at character 7; "
            "line 3: invalid JSON: Expecting value at character 1",
            id="an object over several lines",
        ),
        pytest.param(
            '[{"text": "a"}]',
            "row 1: a JSON array, where an object is needed: write JSON Lines, one object a line",
            id="one array",
        ),
        pytest.param("7", "row 1: a number, where an object is needed: write one for each row", id="a number"),
        pytest.param(
            GOOD.encode() + b'{"text": "\xff"}', "line 2: not UTF-8 at byte 11: save the file as UTF-8", id="Latin-1"
        ),
        pytest.param(
            GOOD + '{"text": "\\ud800"}',
            'row 2: "text" holds half a character, \\ud800: write UTF-8',
            id="half a character",
        ),
        pytest.param(
            '{"question": "a", "answer": "b"}', f'row 1: has "question", "answer": {FORMATS}', id="unknown columns"
        ),
        pytest.param("{}", f"row 1: has no column: {FORMATS}", id="no column"),
        pytest.param('{"prompt": "a"}', f'row 1: "completion" is missing: {FORMATS}', id="no completion"),
        pytest.param('{"completion": "a"}', f'row 1: "prompt" is missing: {FORMATS}', id="no prompt"),
        pytest.param('{"instruction": "a"}', f'row 1: "output" is missing: {FORMATS}', id="no output"),
        pytest.param('{"prompt": "a", "completion": 4}', 'row 1: "completion" is a number: write text', id="a number"),
        pytest.param(
            '{"prompt": [], "completion": "4"}',
            'row 1: "prompt" is an empty list: write [{"role": ..., "content": ...}, ...]',
            id="a prompt without messages",
        ),
        pytest.param(
            '{"messages": []}',
            'row 1: "messages" is an empty list: write [{"role": ..., "content": ...}, ...]',
            id="no messages",
        ),
        pytest.param(
            '{"messages": "Hello"}',
            'row 1: "messages" is text: write [{"role": ..., "content": ...}, ...]',
            id="messages are text",
        ),
        pytest.param(
            '{"messages": ["Hello"]}',
            'row 1: message 1 is text: write {"role": ..., "content": ...}',
            id="a message is text",
        ),
        pytest.param(
            '{"messages": [{"role": "human", "content": "Hello"}]}',
            'row 1: message 1 has the role "human": write one of system, user, assistant, tool',
            id="an unknown role",
        ),
        pytest.param(
            '{"messages": [{"from": "user", "content": "Hello"}]}',
            "row 1: message 1 has the role null: write one of system, user, assistant, tool",
            id="no role",
        ),
        pytest.param(
            '{"messages": [{"role": "user", "content": [1]}]}',
            'row 1: message 1: "content" is a list: write text',
            id="content of another type",
        ),
        pytest.param(
            GOOD + "{}\n" * 5,
            f"row 2: has no column: {FORMATS}; row 3: has no column: {FORMATS}; row 4: has no column: {FORMATS}; "
            "2 more rows are wrong",
            id="more wrong rows than are named",
        ),
    ],
)
def test_a_wrong_dataset_is_refused_by_place_and_reason(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(Refused) as refused:
        read(tmp_path, content)
    assert (refused.value.reason, str(refused.value)) == (
        Reason.DATASET_INVALID,
        f"pvc://data/rows.jsonl: {message}",
    )


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^pvc://data/none\.jsonl: there is no such file$"):
        data.read("pvc://data/none.jsonl", tmp_path / "none.jsonl", formats.conversation)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^pvc://data: this is a folder: name the JSON Lines file in it$"):
        data.read("pvc://data", tmp_path, formats.conversation)
