"""The measurement: numbers that a slower, plainer computation gives too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_trainer import evaluate, model, task
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.template import ChatFormat

ROWS = [
    Row(number, [{"role": "user", "content": "x" * number}, {"role": "assistant", "content": "y" * (number % 3)}])
    for number in (7, 1, 11, 3, 10, 2, 9, 4, 8, 6, 5)
]


@pytest.fixture(scope="module")
def chat(base: Path) -> ChatFormat:
    return ChatFormat(tokenizers.load(base, "file:///base"), builders.CHATML)


@pytest.fixture(scope="module")
def plain(base: Path) -> Any:
    return model.load_base(base, "file:///base", model.Precision("cpu", "float32"))


def test_loss_and_accuracy_are_means_over_trained_tokens(plain: Any, chat: ChatFormat) -> None:
    examples = chat.encode(Rows("rows", ROWS, "", []), max_length=512, between=lambda: None)
    losses: list[float] = []
    right: list[bool] = []
    for example in examples:
        with torch.no_grad():
            scores = plain(torch.tensor([list(example.token_ids)])).logits[0].log_softmax(-1)
        for place, is_trained in enumerate(example.trained):
            if is_trained:
                losses.append(-scores[place - 1, example.token_ids[place]].item())
                right.append(scores[place - 1].argmax().item() == example.token_ids[place])
    found = evaluate.token_metrics(plain, examples, chat.tokenizer.pad_token_id, between=lambda: None)
    assert found == pytest.approx(
        {"loss": sum(losses) / len(losses), "tokenAccuracy": sum(right) / len(right)}, rel=1e-4
    )


def test_answers_do_not_depend_on_the_batch(plain: Any, chat: ChatFormat) -> None:
    questions = task.questions(chat, Rows("rows", ROWS, "", []))
    together = evaluate.generated(plain, chat, questions, between=lambda: None)
    longest = max(questions, key=lambda question: len(question.answer))
    alone = [evaluate.generated(plain, chat, [question, longest], between=lambda: None)[0] for question in questions]
    assert together == alone


class CountingModel:
    """Answers with the number of tokens that it was asked with."""

    device = "cpu"

    def __init__(self, chat: ChatFormat) -> None:
        self._tokenizer = chat.tokenizer

    def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        texts = [f"{count:04}" for count in attention_mask.sum(1).tolist()]
        return torch.cat([input_ids, torch.tensor(self._tokenizer(texts)["input_ids"])], dim=1)


def test_each_question_gets_its_own_answer(chat: ChatFormat) -> None:
    questions = task.questions(chat, Rows("rows", ROWS, "", []))
    answers = evaluate.generated(CountingModel(chat), chat, questions, between=lambda: None)
    assert answers == [f"{len(question.token_ids):04}" for question in questions]
    assert len(set(answers)) == len(ROWS)


def test_a_batch_padded_to_its_longest_stays_within_the_limit() -> None:
    found = list(evaluate.batches([5, 1, 9, 2, 2, 30], lambda length: length, 10))
    assert found == [[1, 2, 2], [5], [9], [30]]
    assert list(evaluate.batches([], lambda length: length, 10)) == []
