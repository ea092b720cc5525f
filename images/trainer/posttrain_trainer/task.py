"""The task of a recipe, ready for the model: rows as tokens, split into those to learn from and those to judge by.

Preflight and training prepare it in the same way, so that what passed preflight is what is trained.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.environment import Dataset
from posttrain_api.v1alpha1.evaluation import GENERATED
from posttrain_api.v1alpha1.methods import RL, TRAINING
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import DataReport
from posttrain_api.v1alpha1.tuning import MOVES_THE_BASE, Lora, Osft
from posttrain_trainer import (
    adapters,
    base,
    chat_template,
    dataset_rows,
    facts,
    formats,
    named_models,
    prompts,
    split,
    steps,
)
from posttrain_trainer import tokenizer as tokenizers
from posttrain_trainer.base import Base
from posttrain_trainer.data import Parse, Row, Rows
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt, token_ids
from posttrain_trainer.named_models import NamedModels
from posttrain_trainer.places import Places
from posttrain_trainer.prompts import Answered
from posttrain_trainer.questions import Question, check_rewards, questions
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.split import Split
from posttrain_trainer.template import ChatFormat


@dataclass(frozen=True)
class Task:
    """Everything that training and evaluation need to know beforehand."""

    base: Base
    chat: ChatFormat
    training: Sequence[Example | Pair | Labelled | Prompt]
    """What the method learns from: Example for sft, Pair, Labelled or Prompt for the others; all of one type. None for
    merge."""
    held_out: list[Example]
    """The held-out rows as texts with their right answer: the chosen, the desirable or the gold one."""
    questions: list[Question]
    """The held-out rows to answer; none where no metric needs an answer, and for distill, bestOf, grpo, rloo and
    ppo, whose held_out_rows are the questions."""
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
    """Digest of what the held-out rows say, none of which is trained on."""
    data: DataReport | None = None
    """What is in the rows."""
    problems: Sequence[str] = ()
    """What is wrong with each row that was left out."""
    named: NamedModels = field(default_factory=NamedModels)
    """What is loaded beside the base."""
    answer_room: int = 0
    """Tokens that the model itself may add to a row while it learns."""

    @property
    def prompts(self) -> list[Prompt]:
        """The rows to learn from that the model answers by itself."""
        return [row for row in self.training if isinstance(row, Prompt)]

    @property
    def longest(self) -> int:
        """Tokens of the longest row to learn from, or to judge by where there is none, and of an answer to it."""
        return max((row.num_tokens for row in self.training or self.held_out), default=1) + self.answer_room


def prepare(config: RunConfig, places: Places, stop: Stop) -> Task:
    """Look at the base; read, render and tokenize every row of a run; Refused names what is wrong with it."""
    _check_packing(config.recipe)
    return _Preparation(config, places, stop).task()


def _check_packing(recipe: Recipe) -> None:
    """Refused where this image has no attention that takes the rows of one sequence apart."""
    if recipe.hyperparameters.packing and importlib.util.find_spec("flash_attn") is None:
        raise Refused(
            Reason.INVALID_SPEC,
            "hyperparameters.packing needs flash attention, which this image has not: add the package flash-attn to an "
            "image of your own and name it in podTemplate.image, or remove packing: rows of similar lengths go through "
            "the model together without it",
        )


class _Preparation:
    """The steps from a run's files to its task."""

    def __init__(self, config: RunConfig, places: Places, stop: Stop) -> None:
        self._config = config
        self._recipe: Recipe = config.recipe
        self._places = places
        self._stop = stop

    def task(self) -> Task:
        """The whole task."""
        recipe, uri = self._recipe, self._config.base_uri
        model = base.read(self._places.path(uri), uri)
        _check_layers(model, recipe.tuning.lora or Lora())
        _check_osft(model, recipe.tuning.osft)
        tokenizer = tokenizers.load(self._places.path(uri), uri)
        named = named_models.read(self._config, self._places, model, tokenizer)
        rows = self._read("environment.dataset", recipe.environment.dataset)
        judged = self._read_if("evaluation.dataset", recipe.evaluation.dataset)
        retained = self._read_if("evaluation.retention.dataset", self._retention, method="sft")
        self._stop.check("while it read the data")
        chat = self._chat_format(tokenizer, [row for part in (rows, judged, retained) if part for row in part.rows])
        encoded = self._encoded(chat, rows)
        others = self._encoded(chat, judged) if judged else encoded
        parts = self._parts(_usable(rows, encoded), _usable(judged, others) if judged else None)
        training = _those(parts.training, encoded) if recipe.method != "merge" else []
        held_out = _those(parts.held_out, others)
        retention = self._retained(chat, retained)
        steps.check_fits(recipe, training, rows.name)
        _check_vocabulary(model, [*training, *held_out, *retention])
        seen = facts.report(parts, training, chat, has_system_prompt=bool(recipe.environment.system_prompt))
        return Task(
            base=model,
            chat=chat,
            training=training,
            held_out=_as_examples(held_out, chat),
            questions=self._questions(chat, parts.held_out),
            dataset_digest=rows.digest,
            evaluation_digest=None if judged is None else judged.digest,
            warnings=[*_left_out(rows, judged, retained), *self._oddities(parts, seen, model)],
            held_out_rows=[row for row in held_out if not isinstance(row, Example)],
            retention=retention,
            retention_questions=self._retention_questions(chat, retained, retention),
            held_out_digest=split.digest(parts.held_out.rows),
            data=seen,
            problems=_problems(rows, judged, retained),
            named=named,
            answer_room=_answer_room(recipe),
        )

    @property
    def _retention(self) -> Dataset | None:
        retention = self._recipe.evaluation.retention
        return None if retention is None else retention.dataset

    def _read(self, where: str, dataset: Dataset, method: str | None = None) -> Rows:
        return dataset_rows.read(dataset, self._places, self._parse(method), self._config.sources.get(where))

    def _parse(self, method: str | None) -> Parse:
        """How a row is read; one of another method than the run's is of another task."""
        return formats.of(self._recipe.method, self._recipe.environment) if method is None else formats.of(method)

    def _read_if(self, where: str, dataset: Dataset | None, method: str | None = None) -> Rows | None:
        return None if dataset is None else self._read(where, dataset, method)

    def _chat_format(self, tokenizer: Any, rows: Sequence[Row]) -> ChatFormat:
        recipe = self._recipe
        given = recipe.environment.chat_template
        found = chat_template.shared(self._combined) if given is None else None
        found = found or chat_template.chosen(given, tokenizer, self._places)
        if any(row.messages for row in rows):
            chat_template.require(found)
        only = recipe.sft is not None and recipe.sft.completion_only
        return ChatFormat(tokenizer, found, recipe.environment.system_prompt, completion_only=only)

    @property
    def _combined(self) -> dict[str, Path]:
        """Folders of the adapters that a merge combines, by the names of their runs."""
        sources = adapters.to_merge(self._config) if self._recipe.merge else []
        return {source.run: self._places.path(source.uri) for source in sources}

    def _encoded(self, chat: ChatFormat, rows: Rows) -> Mapping[int, Example | Answered]:
        """A row's number -> the row as tokens."""
        is_sft = self._recipe.method in ("sft", "merge")
        found = self._examples(chat, rows) if is_sft else self._answered(chat, rows)
        return {row.number: row for row in found}

    def _examples(self, chat: ChatFormat, rows: Rows) -> Sequence[Example]:
        return chat.encode(rows, max_length=self._max_length, between=self._check)

    def _answered(self, chat: ChatFormat, rows: Rows) -> Sequence[Answered]:
        divide = prompts.scored if self._recipe.method == "reward" else prompts.split
        return prompts.encode(chat, rows, divide, max_length=self._max_length, between=self._check)

    @property
    def _max_length(self) -> int:
        return self._recipe.hyperparameters.max_length

    def _check(self) -> None:
        self._stop.check("while it read the data")

    def _parts(self, rows: Rows, judged: Rows | None) -> Split:
        method = self._recipe.method
        if method == "merge" and judged is not None:
            return Split(rows, judged, 0)
        if method == "kto":
            split.check_labels(rows.rows, rows.name)
        seed = self._recipe.hyperparameters.seed
        parts = split.split(rows, seed=seed) if judged is None else split.apart(rows, judged)
        if method == "kto":
            split.check_labels(parts.training.rows, f"{rows.name}, without the rows that are held out")
            split.check_labels(parts.held_out.rows, f"{parts.held_out.name}, the rows that are held out")
        if method in (*RL, "bestOf"):
            check_rewards(rows, self._recipe.environment.rewards)
        return parts

    def _questions(self, chat: ChatFormat, held_out: Rows) -> list[Question]:
        is_prompt = self._recipe.method in (*RL, "distill", "bestOf")
        return [] if is_prompt or GENERATED.isdisjoint(self._recipe.evaluation.metrics) else questions(chat, held_out)

    def _retained(self, chat: ChatFormat, rows: Rows | None) -> Sequence[Example]:
        return [] if rows is None else self._examples(chat, rows)

    def _retention_questions(
        self, chat: ChatFormat, rows: Rows | None, encoded: Sequence[Example]
    ) -> Sequence[Question]:
        if rows is None or "exactMatch" not in self._recipe.evaluation.metrics:
            return []
        return questions(chat, _usable(rows, {row.number: row for row in encoded}))

    def _oddities(self, parts: Split, seen: DataReport, model: Base) -> list[str]:
        longest, positions = seen.length_max + _answer_room(self._recipe), model.num_positions
        count, batch_size = len(parts.training.rows), self._recipe.hyperparameters.effective_batch_size
        found = facts.warnings(seen, count)
        if self._recipe.method in TRAINING - RL and count < batch_size:
            found.append(f"{count} rows are fewer than effectiveBatchSize {batch_size}: each epoch is one step")
        every = self._config.checkpoints.every_steps if self._config.checkpoints else 1
        if every > 1 and every > (total := steps.planned(count, self._recipe)):
            found.append(f"checkpoints.everySteps {every} is more than all {total} steps: there will be no step-N")
        if positions is not None and longest > positions and self._recipe.method not in RL:
            found.append(f"rows have up to {longest} tokens, and the base was made for {positions}: lower maxLength")
        return found


def _check_layers(model: Base, lora: Lora) -> None:
    """Refused where no layer has a chosen name, or none of a rank from which a start could be taken."""
    model.adapted_layers(lora.target_modules)
    if lora.init in MOVES_THE_BASE | {"eva"}:
        model.check_rank(f"tuning.lora.rank with init {lora.init}", lora.rank, lora.target_modules)


def _answer_room(recipe: Recipe) -> int:
    block = recipe.distill or recipe.best_of or recipe.answering
    return block.max_completion_tokens if block else 0


def _usable(rows: Rows, encoded: Mapping[int, Any]) -> Rows:
    """The rows that could be made into tokens."""
    return replace(rows, rows=[row for row in rows.rows if row.number in encoded])


def _those(rows: Rows, encoded: Mapping[int, Example | Answered]) -> list[Any]:
    return [encoded[row.number] for row in rows.rows]


def _as_examples(rows: Sequence[Example | Answered], chat: ChatFormat) -> list[Example]:
    answered = [row for row in rows if not isinstance(row, Example)]
    return [row for row in rows if isinstance(row, Example)] or prompts.judged(answered, chat)


def _left_out(*parts: Rows | None) -> list[str]:
    """What was odd about the files themselves."""
    return [
        sentence
        for part in parts
        if part is not None
        for sentence in [*part.warnings, *(part.problems.warnings() if part.problems else [])]
    ]


def _check_osft(model: Base, chosen: Osft | None) -> None:
    """Refused where of a layer's directions none would stay."""
    smallest = min((min(shape) for shape in model.linear_layers.values()), default=0)
    if chosen is not None and smallest and int(smallest * (1 - chosen.unfreeze_rank_ratio)) < 1:
        most = math.floor(1000 * (1 - 1 / smallest)) / 1000
        raise Refused(
            Reason.TUNING_UNSUPPORTED,
            f"tuning.osft.unfreezeRankRatio {chosen.unfreeze_rank_ratio:g}: a layer of {model.uri} has {smallest} "
            f"directions, of which at least one must stay: write {most:g} or less, or tuning.full",
        )


def _problems(*parts: Rows | None) -> list[str]:
    """What is wrong with each row that was left out."""
    return [problem for part in parts if part and part.problems for problem in part.problems.all]


def _check_vocabulary(model: Base, rows: Sequence[Example | Answered]) -> None:
    largest = max((max(tokens, default=0) for row in rows for tokens in token_ids(row)), default=0)
    if largest >= model.vocabulary:
        raise Refused(
            Reason.MODEL_INVALID,
            f"{model.uri}: the tokenizer makes token {largest}, but the model knows only {model.vocabulary}: "
            "use the tokenizer that the base was trained with",
        )
