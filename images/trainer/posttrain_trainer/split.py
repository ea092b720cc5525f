"""Which rows are learned from and which are judged by: none is both, and a digest says which were judged by."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.refusal import Refused

MAX_HELD_OUT = 500


@dataclass(frozen=True)
class Split:
    """The rows of a run."""

    training: Rows
    held_out: Rows
    leaked: int
    """Rows taken out of training because they are held out as well."""


def split(rows: Rows, *, seed: int) -> Split:
    """5 % of the rows to judge by, at least 1 and at most 500, chosen by the seed; of kto's, of each label."""
    if len(rows.rows) < 2:
        raise Refused(
            Reason.DATASET_INVALID,
            f"{rows.name}: 1 row, and one is held out to judge the result: add rows, or give evaluation.dataset",
        )
    draw = random.Random(seed)
    labels = sorted({row.label for row in rows.rows}, key=str)
    chosen: set[int] = set()
    for label in labels:
        places = [place for place, row in enumerate(rows.rows) if row.label == label]
        most = MAX_HELD_OUT // len(labels)
        chosen |= set(draw.sample(places, max(1, min(most, len(places) * 5 // 100))))
    held_out = [rows.rows[place] for place in sorted(chosen)]
    training = [row for place, row in enumerate(rows.rows) if place not in chosen]
    return apart(replace(rows, rows=training), replace(rows, rows=held_out))


def apart(training: Rows, held_out: Rows) -> Split:
    """The rows to learn from without those that are held out; Refused where nothing is left."""
    judged = {content_digest(row) for row in held_out.rows}
    kept = [row for row in training.rows if content_digest(row) not in judged]
    if not kept:
        raise Refused(
            Reason.DATASET_INVALID,
            f"{training.name}: every row to learn from is held out as well, so none is left: add other rows",
        )
    return Split(replace(training, rows=kept), held_out, len(training.rows) - len(kept))


def content_digest(row: Row) -> str:
    """sha256 of what a row says, whatever its number."""
    content = [row.messages, row.text, row.answers, row.label, row.gold, row.tools]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest(rows: Iterable[Row]) -> str:
    """Digest of what rows say, whatever their order."""
    return digest_of({"rows": sorted(content_digest(row) for row in rows)})


def check_labels(rows: Sequence[Row], name: str) -> None:
    """Refused where kto's rows have one label only."""
    if len({row.label for row in rows}) < 2:
        missing, present = ("undesirable", "true") if rows[0].label else ("desirable", "false")
        raise Refused(
            Reason.DATASET_INVALID,
            f'{name}: every row has "label": {present}: kto needs both classes: add {missing} rows',
        )
