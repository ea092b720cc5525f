"""What preflight says of the base and of the rows: counts, shares and lengths, and what the chat template adds."""

from collections import Counter
from collections.abc import Sequence

from posttrain_api.trainer_contract import MASK_OPEN
from posttrain_api.v1alpha1.training_run_status import MAX_TUNED_MODULES, DataReport, ModelReport
from posttrain_api.v1alpha1.tuning import Tuning
from posttrain_trainer.base import Base
from posttrain_trainer.data import Row
from posttrain_trainer.examples import Example, Labelled, Pair, Prompt
from posttrain_trainer.split import Split, content_digest
from posttrain_trainer.template import ChatFormat

REFUSALS = (
    "i can't",
    "i cannot",
    "i can not",
    "i'm sorry",
    "i am sorry",
    "i'm unable",
    "i am unable",
    "i'm not able",
    "i am not able",
    "i won't",
    "sorry, but i",
    "sorry, i",
    "as an ai",
    "i must decline",
    "unfortunately, i can",
)
"""What an answer that refuses begins with, in small letters; a share by these words is a hint, not a judgement."""
_MAX_SYSTEM_PROMPT = 200


def model(base: Base, tuning: Tuning) -> ModelReport:
    """The facts of the base, with the layers that the tuning hits."""
    lora = tuning.lora
    hit = base.adapted_layers(lora.target_modules) if lora else base.linear_layers if tuning.osft else {}
    counted = Counter(name.rpartition(".")[2] for name in hit)
    return ModelReport(
        parameters=base.num_parameters,
        layers=base.num_layers,
        hidden_size=base.hidden_size,
        vocabulary=base.vocabulary,
        tuned_modules=dict(sorted(counted.most_common(MAX_TUNED_MODULES))),
    )


def report(
    parts: Split, encoded: Sequence[Example | Pair | Labelled | Prompt], chat: ChatFormat, *, has_system_prompt: bool
) -> DataReport:
    """The facts of the rows to learn from; `encoded` are the same rows as tokens."""
    rows, problems = parts.training.rows, parts.training.problems
    num_read = problems.num_read if problems else len(rows)
    lengths = sorted(row.num_tokens for row in encoded) or [0]
    labels = [row.label for row in rows if row.label is not None]
    return DataReport(
        rows_read=num_read,
        rows_refused=len(problems.all) if problems else 0,
        duplicates=len(rows) - len({content_digest(row) for row in rows}),
        prompt_equals_completion=sum(_repeats_question(row) for row in rows),
        chosen_equals_rejected=sum(len(row.answers) == 2 and row.answers[0] == row.answers[1] for row in rows),
        leaked=parts.leaked,
        held_out_rows=len(parts.held_out.rows),
        refusal_share=_refusal_share(rows),
        truncated_share=_share(problems.num_too_long if problems else 0, num_read),
        trained_share=_share(sum(row.num_trained for row in encoded), sum(row.total_tokens for row in encoded)),
        length_p50=_percentile(lengths, 50),
        length_p90=_percentile(lengths, 90),
        length_p99=_percentile(lengths, 99),
        length_max=lengths[-1],
        desirable_share=_share(sum(labels), len(labels)) if labels else None,
        end_of_turn=chat.tokenizer.decode(chat.end_of_turn[:1])[:64],
        default_system_prompt=None if has_system_prompt else default_system_prompt(chat),
    )


def warnings(data: DataReport, num_rows: int) -> list[str]:
    """What of it is odd."""
    found = [
        (data.duplicates, f"{data.duplicates} of {num_rows} rows to learn from are repetitions"),
        (data.leaked, f"{data.leaked} rows to learn from are held out as well: they were taken out"),
        (data.prompt_equals_completion, f"{data.prompt_equals_completion} answers repeat the question"),
        (
            data.chosen_equals_rejected,
            f"{data.chosen_equals_rejected} pairs have two equal answers: they teach nothing",
        ),
    ]
    return [sentence for is_odd, sentence in found if is_odd]


def default_system_prompt(chat: ChatFormat) -> str | None:
    """What the chat template says as the system where a conversation says nothing; None where it says nothing."""
    if chat.template is None:
        return None
    user = {"role": "user", "content": "Hello"}
    try:
        without = chat.render([user])
        before, mark, behind = chat.render([{"role": "system", "content": MASK_OPEN}, user]).partition(MASK_OPEN)
    except ValueError:
        return None
    if not mark or len(before) + len(behind) >= len(without):
        return None
    if not (without.startswith(before) and without.endswith(behind)):
        return None
    return without[len(before) : len(without) - len(behind)].strip()[:_MAX_SYSTEM_PROMPT] or None


def refuses(answer: str) -> bool:
    """Whether an answer begins like a refusal."""
    return answer.strip().lower().replace("’", "'").startswith(REFUSALS)


def _refusal_share(rows: Sequence[Row]) -> float:
    answers = [answer for row in rows if row.label is not False and (answer := _answer(row)) is not None]
    return _share(sum(refuses(answer) for answer in answers), len(answers))


def _answer(row: Row) -> str | None:
    """What is to be learned: the last answer, the better one of a pair, the right one of a prompt."""
    if row.right is not None or row.text is not None:
        return row.right
    said = [message for message in (row.answers or (row.messages,))[0] if message["role"] == "assistant"]
    return str(said[-1]["content"]) if said else None


def _repeats_question(row: Row) -> bool:
    answer = _answer(row)
    asked = [message for message in row.messages if message["role"] == "user"]
    return bool(answer and asked) and str(asked[-1]["content"]).strip() == str(answer).strip()


def _percentile(lengths: Sequence[int], percent: int) -> int:
    """The smallest length that so many percent of the sorted lengths do not exceed."""
    return lengths[max(-(-len(lengths) * percent // 100) - 1, 0)]


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
