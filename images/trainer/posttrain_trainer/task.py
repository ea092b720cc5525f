"""The task of a recipe, ready for the model: rows as tokens, split into those to learn from and those to judge by.

Preflight and training prepare it in the same way, so that what passed preflight is what is trained.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_api.v1alpha1.evaluation import GENERATED
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer import base, data, template
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.base import Base
from posttrain_trainer.data import Message, Row, Rows
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.template import ChatFormat

MAX_HELD_OUT = 500


@dataclass(frozen=True)
class Question:
    """A held-out conversation up to its last answer, and that answer."""

    number: int
    """The row's number in its dataset."""
    messages: list[Message]
    token_ids: list[int]
    """Up to where the assistant answers."""
    answer: str
    """The right answer."""


@dataclass(frozen=True)
class Task:
    """Everything that training and evaluation need to know beforehand."""

    base: Base
    chat: ChatFormat
    training: Sequence[Example | Pair | Labelled | Prompt]
    """What the method learns from: Example for sft, Pair, Labelled or Prompt for the others; all of one type."""
    held_out: list[Example]
    """The held-out rows as texts with their right answer: the chosen, the desirable or the gold one."""
    questions: list[Question]
    """The held-out rows to answer; none where no metric needs an answer."""
    dataset_digest: str
    evaluation_digest: str | None
    """None where the held-out rows were taken out of the training data."""
    warnings: list[str]
    held_out_rows: Sequence[Pair | Labelled | Prompt] = ()
    """The held-out rows as the method sees them; none for sft and merge."""
    retention: Sequence[Example] = ()
    """Rows that show what is forgotten."""
    retention_questions: Sequence[Question] = ()
    """Those of them to answer; none where exactMatch is not measured."""
    held_out_digest: str | None = None
    """Digest of the held-out rows."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row to learn from."""
        return max(row.num_tokens for row in self.training)


def prepare(config: RunConfig, places: Places, stop: Stop) -> Task:
    """Look at the base; read, render and tokenize every row of a run; Refused names what is wrong with it."""
    recipe = config.recipe
    model = base.read(places.path(config.base_uri), config.base_uri)
    model.adapted_layers(recipe.tuning.lora.target_modules if recipe.tuning.lora else [])
    tokenizer = tokenizers.load(places.path(config.base_uri), config.base_uri)
    rows = data.read(*places.dataset(recipe.environment.dataset))
    judged = None if recipe.evaluation.dataset is None else _separate(recipe.evaluation.dataset, places)
    stop.check("while it read the data")
    chat = _chat_format(recipe, tokenizer, [*rows.rows, *(judged.rows if judged else [])], places)
    training, held_out = split(rows, seed=recipe.hyperparameters.seed) if judged is None else (rows, judged)
    wants_answers = not GENERATED.isdisjoint(recipe.evaluation.metrics)
    examples, judging = _encode(chat, training, recipe, stop), _encode(chat, held_out, recipe, stop)
    _check_vocabulary(model, [*examples, *judging])
    return Task(
        base=model,
        chat=chat,
        training=examples,
        held_out=judging,
        questions=questions(chat, held_out) if wants_answers else [],
        dataset_digest=rows.digest,
        evaluation_digest=None if judged is None else judged.digest,
        warnings=rows.warnings + _oddities(training, held_out, recipe.hyperparameters.effective_batch_size),
    )


def split(rows: Rows, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to learn from and rows to judge by: 5 % of them, at least 1 and at most 500, chosen by the seed."""
    count = len(rows.rows)
    if count < 2:
        raise Refused(
            Reason.DATASET_INVALID,
            f"{rows.name}: 1 row, and one is held out to judge the result: add rows, or give evaluation.dataset",
        )
    chosen = set(random.Random(seed).sample(range(count), max(1, min(MAX_HELD_OUT, count * 5 // 100))))
    return _part(rows, [place for place in range(count) if place not in chosen]), _part(rows, sorted(chosen))


def questions(chat: ChatFormat, rows: Rows) -> list[Question]:
    """The question before the last answer of each row; Refused where a row has no answer to compare."""
    problems = data.Problems(rows.name)
    found: list[Question] = []
    for row in rows.rows:
        place = max((at for at, message in enumerate(row.messages) if message["role"] == "assistant"), default=None)
        if place is None:
            problems.add(
                f"row {row.number}",
                "a metric on answers, such as exactMatch, needs one here: write a conversation, or remove it",
            )
        else:
            messages, answer = row.messages[:place], str(row.messages[place]["content"]).strip()
            found.append(Question(row.number, messages, chat.question(messages), answer))
    problems.refuse()
    return found


def _separate(dataset: Dataset, places: Places) -> Rows:
    return data.read(*places.dataset(dataset))


def _chat_format(recipe: Recipe, tokenizer: object, rows: Sequence[Row], places: Places) -> ChatFormat:
    found = template.chosen(recipe.environment.chat_template, tokenizer, places)
    if any(row.messages for row in rows):
        template.require(found)
    return ChatFormat(tokenizer, found, recipe.environment.system_prompt)


def _encode(chat: ChatFormat, rows: Rows, recipe: Recipe, stop: Stop) -> list[Example]:
    max_length = recipe.hyperparameters.max_length
    return chat.encode(rows, max_length=max_length, between=lambda: stop.check("while it read the data"))


def _check_vocabulary(model: Base, examples: Sequence[Example]) -> None:
    largest = max(max(example.token_ids) for example in examples)
    if largest >= model.vocabulary:
        raise Refused(
            Reason.MODEL_INVALID,
            f"{model.uri}: the tokenizer makes token {largest}, but the model knows only {model.vocabulary}: "
            "use the tokenizer that the base was trained with",
        )


def _part(rows: Rows, places: Sequence[int]) -> Rows:
    return Rows(rows.name, [rows.rows[place] for place in places], rows.digest, rows.warnings)


def _oddities(training: Rows, held_out: Rows, batch_size: int) -> list[str]:
    contents = {_content(row) for row in training.rows}
    repeated = len(training.rows) - len(contents)
    leaked = sum(_content(row) in contents for row in held_out.rows)
    found = [
        (repeated, f"{repeated} of {len(training.rows)} rows to learn from are repetitions"),
        (leaked, f"{leaked} of {len(held_out.rows)} held-out rows are also learned from: the scores flatter"),
        (
            len(training.rows) < batch_size,
            f"{len(training.rows)} rows are fewer than effectiveBatchSize {batch_size}: each epoch is one step",
        ),
    ]
    return [sentence for is_odd, sentence in found if is_odd]


def _content(row: Row) -> str:
    return (
        row.text if row.text is not None else repr([(message["role"], message["content"]) for message in row.messages])
    )
