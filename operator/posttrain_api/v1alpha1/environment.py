"""The task of a run: its data, how a conversation is written, and how an answer is scored."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from posttrain_api.meta import KeyReference
from posttrain_api.model import Check, Model, exactly_one
from posttrain_api.uri import ReadableUri
from posttrain_api.v1alpha1.references import RunReference

Column = Annotated[str, Field(min_length=1, max_length=64)]


class Dataset(Model):
    """Rows of JSON, one a line. What a row holds depends on the method.

    sft: `messages`, or `prompt` and `completion`, or `instruction` and `output` (alpaca, with an optional `input`), or
    `text`. dpo, simpo, orpo and reward: `prompt`, `chosen` and `rejected`; without `prompt`, what both begin with is
    the prompt. kto: `prompt`, `completion` and `label`. distill and bestOf: `prompt`, with the right answer as
    `completion` or `gold` where something is scored by it. A prompt is text or messages; an answer likewise.
    """

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("uri", "configMap", "fromRun"),)

    uri: ReadableUri | None = None
    """A JSON Lines file: pvc://claim/path, or file:///path in the image."""
    config_map: KeyReference | None = None
    """A key of a ConfigMap that holds JSON Lines."""
    from_run: RunReference | None = None
    """The rows that a bestOf run kept."""
    columns: Annotated[dict[str, Column], Field(max_length=16)] = {}
    """Name of a column in the file -> the name that the method knows, such as question: prompt."""
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Take so many rows from the beginning; left out: all."""
    invalid_rows: Literal["Refuse", "Skip"] = "Refuse"
    """Refuse: a row that cannot be used fails the run. Skip: it is left out and counted."""
    max_invalid_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """With invalidRows Skip: the share of rows that may be left out; more fail the run."""


class ChatTemplate(Model):
    """A Jinja chat template, saved with the artifact and used wherever it is served."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("inline", "configMap"),)

    inline: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """The template itself."""
    config_map: KeyReference | None = None
    """A key of a ConfigMap that holds it."""


class RewardModel(Model):
    """A reward model that another run trained."""

    from_run: RunReference
    """A TrainingRun with method reward."""


class Reward(Model):
    """One way in which an answer is scored."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("builtin", "model"),)

    builtin: Literal["exact", "numeric"] | None = None
    """exact: 1 where the answer is the gold answer to the letter, surrounding space aside, else 0. numeric: 1 where the
    last number in the answer equals the last number in the gold answer, else 0."""
    model: RewardModel | None = None
    """The raw score of a reward model."""
    weight: Annotated[float, Field(ge=-1000, le=1000)] = 1.0
    """An answer's score is the sum of weight * score."""


class Environment(Model):
    """The task: its data, how a conversation is written and how an answer is scored. Shared unchanged by training and
    evaluation."""

    dataset: Dataset
    """The rows to learn from."""
    rewards: Annotated[list[Reward], Field(max_length=16)] = []
    """How an answer is scored: what bestOf chooses by, and the metric `reward`."""
    system_prompt: Annotated[str, Field(min_length=1, max_length=16384)] | None = None
    """System message put before every conversation that has none."""
    chat_template: ChatTemplate | None = None
    """The chat template; left out: the base model's own."""
