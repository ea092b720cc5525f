"""The measurement: numbers that a slower, plainer computation gives too."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_trainer import answers, batching, evaluate, measurable, model, preference, task
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.answers import Answer
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.examples import Labelled, Pair, Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.scoring import Scorer
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


def job(base: Path, folder: Path, *, environment: dict[str, Any] | None = None, **evaluation: Any) -> Job:
    """A run of sft with the metrics of an evaluation, its data read."""
    dataset = builders.json_lines(folder / "rows.jsonl", builders.exchanges(40))
    given = {"dataset": {"uri": f"file://{dataset}"}, "chatTemplate": {"inline": builders.CHATML}}
    config = builders.run(base, dataset, environment=given | (environment or {}), evaluation=evaluation)
    prepared = task.prepare(config, Places(claims=folder), Stop())
    return Job(config, Places(claims=folder), prepared, model.Precision("cpu", "float32"), Progress("double"), Stop())


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
    prompts = [question.token_ids for question in task.questions(chat, Rows("rows", ROWS, "", []))]
    together = answers.generated(plain, chat, prompts, room=6, between=lambda: None)
    alone = [answers.generated(plain, chat, [prompt], room=6, between=lambda: None)[0] for prompt in prompts]
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
    prompts = [question.token_ids for question in task.questions(chat, Rows("rows", ROWS, "", []))]
    found = answers.generated(CountingModel(chat), chat, prompts, room=4, between=lambda: None)
    assert [answer.text for answer in found] == [f"{len(prompt):04}" for prompt in prompts]
    assert len({answer.text for answer in found}) == len(ROWS)


def test_a_batch_padded_to_its_longest_stays_within_the_limit() -> None:
    found = list(batching.batches([5, 1, 9, 2, 2, 30], lambda length: length, 10))
    assert found == [[1, 2, 2], [5], [9], [30]]
    assert list(batching.batches([], lambda length: length, 10)) == []


def test_answers_are_judged_by_how_they_end_and_repeat() -> None:
    found = [
        Answer("", [1, 2, 3, 4, 1, 2, 3, 4], has_ended=True),  # 5 sequences, of which the last was there before
        Answer("", [7, 7, 7, 7, 7, 7], has_ended=False),  # 3 sequences, all alike
        Answer("", [1, 1, 1], has_ended=True),
    ]
    assert answers.repetition(found) == pytest.approx((1 / 5 + 2 / 3 + 0) / 3)
    assert (answers.stop_rate(found), answers.mean_tokens(found)) == pytest.approx((2 / 3, 17 / 3))


def test_an_answer_is_its_tokens_up_to_the_end_of_its_turn(chat: ChatFormat) -> None:
    class Fixed(CountingModel):
        def generate(self, *, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            written = [*chat.tokenizer("ab")["input_ids"], chat.end_of_turn[0], *chat.tokenizer("c")["input_ids"]]
            return torch.cat([input_ids, torch.tensor([written])], dim=1)

    [found] = answers.generated(Fixed(chat), chat, [[1, 2]], room=4, between=lambda: None)
    assert (found.text, len(found.token_ids), found.has_ended) == ("ab", 2, True)


@pytest.mark.parametrize(
    ("rewards_given", "answer", "gold", "score"),
    [
        ([{"builtin": "exact"}], " 12 ", "12", 1.0),
        ([{"builtin": "exact"}], "It is 12", "12", 0.0),
        ([{"builtin": "numeric"}], "3 + 9 is 12.", "#### 12", 1.0),
        ([{"builtin": "numeric"}], "It is 1,200.50", "1200.5", 1.0),
        ([{"builtin": "numeric"}], "12, not 13", "12", 0.0),
        ([{"builtin": "numeric"}], "-12", "12", 0.0),
        ([{"builtin": "numeric"}], "no number", "12", 0.0),
        ([{"builtin": "exact", "weight": 2}, {"builtin": "numeric", "weight": -0.5}], "12", "12", 1.5),
    ],
)
def test_builtin_rewards(rewards_given: Sequence[dict[str, Any]], answer: str, gold: str, score: float) -> None:
    given = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": rewards_given}
    scorer = Scorer(builders.run(Path("/base"), Path("/rows.jsonl"), environment=given), Places(), "cpu")
    assert scorer.scores([(Prompt(1, [], array("i"), gold, {}), answer)]) == [score]


def tokens(chat: ChatFormat, text: str) -> "array[int]":
    return array("i", chat.tokenizer(text)["input_ids"])


def mean_log_probability(plain: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    with torch.no_grad():
        scores = plain(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    places = range(len(prompt), len(prompt) + len(answer))
    return sum(scores[place - 1, token].item() for place, token in zip(places, answer, strict=True)) / len(answer)


def test_the_chosen_answer_is_likelier_per_token(plain: Any, chat: ChatFormat) -> None:
    texts = [("a", "bcd", "e"), ("q", "b", "longer"), ("rs", "x", "y"), ("t", "mm", "nnnn"), ("u", "zz", "z!")]
    pairs = [Pair(n, *(tokens(chat, text) for text in row)) for n, row in enumerate(texts)]
    pad = chat.tokenizer.pad_token_id
    found = preference.accuracy(pairs, lambda rows: preference.likelihoods(plain, rows, pad, between=lambda: None))
    better = [
        mean_log_probability(plain, p.prompt, p.chosen) > mean_log_probability(plain, p.prompt, p.rejected)
        for p in pairs
    ]
    assert found == pytest.approx(sum(better) / len(pairs))
    swapped = [Pair(p.number, p.prompt, p.rejected, p.chosen) for p in pairs]
    again = preference.accuracy(swapped, lambda rows: preference.likelihoods(plain, rows, pad, between=lambda: None))
    assert again == pytest.approx(1 - found)


def test_of_labelled_rows_every_desirable_one_is_held_against_every_undesirable_one() -> None:
    scores = [0.9, 0.5, 0.1, 0.5, 0.0]
    labels = [True, True, True, False, False]
    rows = [Labelled(n, array("i", [1]), array("i", [n]), label) for n, label in enumerate(labels)]
    # In order: 0.9 > 0.5, 0.9 > 0.0, 0.5 > 0.0, 0.1 > 0.0; 0.5 = 0.5 counts half; 0.1 < 0.5.
    found = preference.accuracy(rows, lambda given: [scores[answer[0]] for _, answer in given])
    assert found == pytest.approx(4.5 / 6)


def test_a_score_that_is_no_number_makes_the_metric_none() -> None:
    pairs = [Pair(0, array("i", [1]), array("i", [2]), array("i", [3]))]
    assert evaluate.finite(preference.accuracy(pairs, lambda rows: [float("nan") for _ in rows])) is None


def test_every_metric_is_measured_in_the_order_in_which_it_is_named(base: Path, tmp_path: Path, plain: Any) -> None:
    names = ["stopRate", "exactMatch", "loss", "repetition", "reward", "meanTokens", "tokenAccuracy"]
    found = job(base, tmp_path, environment={"rewards": [{"builtin": "numeric"}]}, metrics=names, maxCompletionTokens=9)
    measured = evaluate.measure(plain, found, names, between=lambda: None)
    assert list(measured.metrics) == names
    assert len(measured.answers) == len(found.task.held_out)
    assert 0 < (measured.metrics["meanTokens"] or 0) <= 9


def test_exact_match_alone_gives_answers_little_room(base: Path, tmp_path: Path, plain: Any) -> None:
    found = job(base, tmp_path, metrics=["exactMatch"], maxCompletionTokens=100)
    measured = evaluate.measure(plain, found, ["exactMatch"], between=lambda: None)
    assert max(len(answer) for answer in measured.answers) <= 2 + 4


def test_retention_is_measured_by_the_same_metrics_or_by_the_loss(base: Path, tmp_path: Path, plain: Any) -> None:
    found = job(base, tmp_path, metrics=["loss", "exactMatch", "meanTokens"], maxCompletionTokens=4)
    rows = found.task
    kept = replace(rows, retention=rows.held_out, retention_questions=rows.questions)
    measured = evaluate.measure(plain, replace(found, task=kept), ["loss", "exactMatch"], between=lambda: None)
    assert list(measured.metrics) == ["loss", "exactMatch", "retention.loss", "retention.exactMatch"]
    assert measured.metrics["retention.loss"] == measured.metrics["loss"]
    other = evaluate.measure(plain, replace(found, task=kept), ["meanTokens"], between=lambda: None)
    assert list(other.metrics) == ["meanTokens", "retention.loss"]


def test_sample_prompts_are_answered(base: Path, tmp_path: Path, plain: Any) -> None:
    found = job(base, tmp_path, samplePrompts=["Who?", "What is 2 + 2?"], maxCompletionTokens=3)
    texts = evaluate.sampled(plain, found, between=lambda: None)
    assert len(texts) == 2
    assert all(len(text) <= 3 for text in texts)


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        ("preferenceAccuracy", {}, "needs held-out rows with prompt, chosen and rejected, or prompt, completion"),
        (
            "preferenceAccuracy",
            {"held_out_rows": [Labelled(1, array("i", [1]), array("i", [2]), is_desirable=True)]},
            "all that are held out are desirable",
        ),
        ("meanTokens", {"questions": []}, "needs held-out rows that ask something"),
        ("reward", {}, "needs a score: give environment.rewards"),
        (
            "exactMatch",
            {"questions": [], "held_out_rows": [Prompt(7, [], array("i", [1]), None, {})]},
            "needs the right answer and row 7 has none: give its completion or gold",
        ),
        ("loss", {"held_out": []}, "needs held-out rows with an answer"),
    ],
)
def test_a_metric_that_these_rows_cannot_show_is_refused(
    base: Path, tmp_path: Path, metric: str, change: dict[str, Any], message: str
) -> None:
    found = job(base, tmp_path, metrics=["tokenAccuracy", "exactMatch"])
    recipe = found.recipe.replace(evaluation=found.recipe.evaluation.replace(metrics=[metric]))
    with pytest.raises(Refused) as refused:
        measurable.check(recipe, replace(found.task, **change))
    assert refused.value.reason == Reason.EVALUATION_INVALID
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"evaluation.metrics: {metric} needs ")
