"""The task of a run: its data, how a conversation is written, and how an answer is scored."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from posttrain_api.meta import KeyReference, LocalReference, SecretKeyReference
from posttrain_api.model import Check, Model, exactly_one
from posttrain_api.uri import ReadableUri, parse
from posttrain_api.v1alpha1.references import RunReference

Column = Annotated[str, Field(min_length=1, max_length=64)]
Entrypoint = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")]
AnyJson = Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
GOLD = "{gold}"
"""Where the right answer stands in environment.answerFormat."""
REASONING_GYM, VERIFIERS = "reasoning-gym", "verifiers"
"""Packages of environments."""
COMPARED_WITH_GOLD = frozenset({"exact", "numeric", "gsm8k", "boxed", "tool_call"})
"""Builtin rewards that compare with the right answer of a row."""


class Dataset(Model):
    """Rows of JSON, one a line. What a row holds depends on the method.

    sft: `messages`, or `prompt` and `completion`, or `instruction` and `output` (alpaca, with an optional `input`), or
    `text`. dpo, simpo, orpo and reward: `prompt`, `chosen` and `rejected`; without `prompt`, what both begin with is
    the prompt. kto: `prompt`, `completion` and `label`. distill, bestOf, grpo, rloo and ppo: `prompt`, with the right
    answer as `completion` or `gold` where something is scored by it. A prompt is text or messages; an answer likewise.
    """

    checks: ClassVar[tuple[Check, ...]] = (
        exactly_one("uri", "configMap", "fromRun", "package"),
        Check(
            "!has(self.packageOptions) || has(self.package)",
            lambda dataset: dataset.package_options is None or dataset.package is not None,
            "dataset.packageOptions are for dataset.package: remove them",
        ),
    )

    uri: ReadableUri | None = None
    """A JSON Lines file: pvc://claim/path, or file:///path in the image."""
    config_map: KeyReference | None = None
    """A key of a ConfigMap that holds JSON Lines."""
    from_run: RunReference | None = None
    """The rows that a bestOf run kept."""
    package: (
        Annotated[str, Field(max_length=160, pattern=r"^(reasoning-gym|verifiers):[A-Za-z0-9_][A-Za-z0-9_./-]*$")]
        | None
    ) = None
    """An environment of a package that the trainer's image has: reasoning-gym:<task>, whose rows are generated, or
    verifiers:<environment>. Its own verifier is the reward where environment.rewards is left out."""
    package_options: Annotated[dict[str, Any], AnyJson] | None = None
    """With package: arguments of the task or of the environment, such as seed or max_terms."""
    columns: Annotated[dict[str, Column], Field(max_length=16)] = {}
    """Name of a column in the file -> the name that the method knows, such as question: prompt."""
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Take so many rows from the beginning; left out: all, or 1000 that reasoning-gym generates."""
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


_FOLDER_OF_CODE = Check(
    "!has(self.uri) || !self.uri.matches('^pvc://[^/]+/*$')",
    lambda code: code.uri is None or bool(parse(code.uri).path),
    "uri: code gets to see its own folder of a claim only: write pvc://claim/path",
)


class PythonReward(Model):
    """A function of the user's: `score(prompts, completions, gold, **columns)` returns a number or None for each
    completion.

    It is called once for a batch, by keywords that are lists: prompts are lists of messages, completions text, gold the
    right answers or None, and each other column stands under its name. It is given what it takes. It may be async. It
    runs apart from the trainer, under another user, without its files and credentials.
    """

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("configMap", "uri"), _FOLDER_OF_CODE)

    config_map: LocalReference | None = None
    """A ConfigMap whose keys are the modules, such as rewards.py."""
    uri: ReadableUri | None = None
    """A folder with the modules: pvc://claim/path, which is all of the claim that they see, or file:///path in the
    image."""
    entrypoint: Entrypoint
    """module:function, such as rewards:score."""
    network: bool = False
    """Let it open connections; false: it has no network."""


class HttpReward(Model):
    """A judge that is asked by HTTP: POST {"prompt", "completion", "gold", columns}, answered by {"score"}."""

    url: Annotated[str, Field(max_length=2048, pattern=r"^https?://[^\s@]+$")]
    """Where it answers."""
    token: SecretKeyReference | None = None
    """A Secret's key whose value is sent as a bearer token."""
    retries: Annotated[int, Field(ge=0, le=16)] = 3
    """How often a request that failed is sent again, each time later."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Requests that are under way at once."""


Builtin = Literal[
    "exact",
    "numeric",
    "regex",
    "json_schema",
    "gsm8k",
    "boxed",
    "tool_call",
    "length",
    "repetition",
    "unit_tests",
    "verifier",
]


def _only_of(name: str, builtin: str, *, needed: bool = False) -> tuple[Check, ...]:
    """The checks that a field is given with this builtin only, and with it always where it is needed."""
    attribute = {"jsonSchema": "json_schema", "maxCharacters": "max_characters"}.get(name, name)
    only = Check(
        f"!has(self.{name}) || (has(self.builtin) && self.builtin == '{builtin}')",
        lambda reward: getattr(reward, attribute) is None or reward.builtin == builtin,
        f"{name} is for builtin {builtin}: remove it",
    )
    always = Check(
        f"!has(self.builtin) || self.builtin != '{builtin}' || has(self.{name})",
        lambda reward: reward.builtin != builtin or getattr(reward, attribute) is not None,
        f"builtin {builtin} needs {name}",
    )
    return (only, always) if needed else (only,)


class Reward(Model):
    """One way in which an answer is scored."""

    checks: ClassVar[tuple[Check, ...]] = (
        exactly_one("builtin", "python", "model", "http"),
        *_only_of("pattern", "regex", needed=True),
        *_only_of("jsonSchema", "json_schema"),
        *_only_of("maxCharacters", "length", needed=True),
    )

    name: Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] | None = None
    """Its name in metrics; left out: the builtin, the function's name, model or http."""
    builtin: Builtin | None = None
    """exact: 1 where the answer is the gold answer to the letter, surrounding space aside, else 0. numeric: 1 where the
    last number in the answer equals the last number in the gold answer, else 0. regex: 1 where all of the answer,
    surrounding space aside, matches the pattern. json_schema: 1 where the answer, or its one block of JSON, fits
    jsonSchema, or the row's column schema.
    gsm8k: 0.1 for one <answer>...</answer>, and 1.0 more where the number in it is the last number of the gold answer.
    boxed: 1 where the last \\boxed{...} is mathematically equal to the gold answer. tool_call: 1 where the calls in
    the answer are those of the gold answer, by name and arguments and in their order. length: 1 up to maxCharacters,
    falling to 0 at twice as many. repetition: the share of four-word sequences that occurred before, below 0.
    unit_tests: share of the row's column tests, Python statements, that pass after the answer's code. verifier: what
    dataset.package says of it."""
    pattern: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """With regex: what the whole answer must match."""
    json_schema: Annotated[dict[str, Any], AnyJson] | None = None
    """With json_schema: the JSON Schema; left out: the row's column schema."""
    max_characters: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """With length: up to so many characters nothing is lost."""
    python: PythonReward | None = None
    """A function of the user's."""
    model: RewardModel | None = None
    """The raw score of a reward model."""
    http: HttpReward | None = None
    """A judge that is asked by HTTP."""
    weight: Annotated[float, Field(ge=-1000, le=1000)] = 1.0
    """An answer's score is the sum of weight * score."""
    role: Literal["reward", "success"] = "reward"
    """reward: it teaches. success: it is only measured, as the clean metric that shows whether a reward is cheated."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds that one call of python, http, unit_tests or verifier may take."""

    @property
    def kind(self) -> str:
        """What scores: the builtin's name, python, model or http."""
        return self.builtin or next(name for name in ("python", "model", "http") if getattr(self, name) is not None)

    @property
    def teaches(self) -> bool:
        """Whether it is a part of an answer's score."""
        return self.role == "reward"

    @property
    def runs_apart(self) -> bool:
        """Whether it runs code that is not ours."""
        return self.python is not None or self.builtin in ("unit_tests", "verifier")


class Tools(Model):
    """What the model may do in a conversation of several turns: the methods of a class of the user's.

    One instance for each answer. `reset(**row)` begins it; each other public method with type hints and a docstring is
    a tool. It runs where python rewards run.
    """

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("configMap", "uri"), _FOLDER_OF_CODE)

    config_map: LocalReference | None = None
    """A ConfigMap whose keys are the modules, such as tools.py."""
    uri: ReadableUri | None = None
    """A folder with the modules: pvc://claim/path, which is all of the claim that they see, or file:///path in the
    image."""
    entrypoint: Entrypoint
    """module:Class, such as tools:Calculator."""
    max_turns: Annotated[int, Field(ge=1, le=64)] = 8
    """How often the model may call tools in one answer."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Seconds that one call may take."""


class Environment(Model):
    """The task: its data, how a conversation is written and how an answer is scored. Shared unchanged by training and
    evaluation."""

    dataset: Dataset
    """The rows to learn from."""
    rewards: Annotated[list[Reward], Field(max_length=16)] = []
    """How an answer is scored: what grpo, rloo, ppo and bestOf maximise, and the metrics `reward` and `success`."""
    tools: Tools | None = None
    """What the model may do before it answers, for grpo."""
    answer_format: Annotated[str, Field(max_length=1024, pattern=r"^[^{}]*\{gold\}[^{}]*$")] | None = None
    """How a right answer is written, with {gold} for what a row gives as `gold`, such as <answer>{gold}</answer>; left
    out: as the first of gsm8k and boxed among the rewards that teach wants it, else as it is. What sft teaches, and
    what the rewards are tried with before a GPU is taken. A row's `completion` is a whole answer already."""
    system_prompt: Annotated[str, Field(min_length=1, max_length=16384)] | None = None
    """System message put before every conversation that has none."""
    chat_template: ChatTemplate | None = None
    """The chat template; left out: the base model's own."""
    allow_no_signal: bool = False
    """Reinforcement learning refuses to begin where the start model answers nothing rightly, or everything; true: it
    begins."""

    @property
    def runs_foreign_code(self) -> bool:
        """Whether a part of it runs apart from the trainer."""
        return self.tools is not None or any(reward.runs_apart for reward in self.rewards)
