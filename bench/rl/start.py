"""The model that every method starts from: it can mostly add, and answers in one form or another.

It is made once, by the trainer's own sft with whole weights, into the cache ($POSTTRAIN_CACHE/models/rl-<digest>).
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.learning import rows, trainings
from bench.learning.trainings import CHAT_TEMPLATE
from bench.rl import tasks
from bench.rl.tasks import FORM
from posttrain_trainer.places import Places

ROWS = "start.jsonl"
FORMS = (FORM, "{gold}", "{gold}", "{gold}.")
"""In which the start answers, one as often as the other: the first one is wanted."""
PACKAGE_REPEATED = 2
"""The package's questions are few."""
HYPERPARAMETERS = {
    "learningRate": 2e-3,
    "epochs": 12,
    "effectiveBatchSize": 32,
    "maxLength": 128,
    "gradientCheckpointing": False,
    "seed": 1,
}


def folder(base: Path) -> Path:
    """Where the start for a base lies; it is made where it is not there."""
    made = base.parent / f"rl-{_key(base)}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=base.parent, prefix=".rl-") as scratch:
            _publish(_made(base, Path(scratch)), made)
    return made


def _key(base: Path) -> str:
    """A digest that changes with the base and with everything that the start is made of."""
    made_of = [(base / "recipe.json").read_text(), _rows(), _spec(Path(), Path())]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _made(base: Path, scratch: Path) -> Path:
    written = rows.write(scratch / ROWS, _rows())
    places = Places(claims=scratch / "claims")
    artifact = trainings.published(_spec(base, written), places, name="start")
    return places.path(artifact.uri)


def _publish(made: Path, wanted: Path) -> None:
    """Two may make it at once: the first one stays."""
    try:
        made.rename(wanted)
    except OSError:
        if not wanted.exists():
            raise


def _spec(base: Path, written: Path) -> Mapping[str, Any]:
    return {
        "method": "sft",
        "baseModel": {"uri": f"file://{base}"},
        "environment": {"dataset": {"uri": f"file://{written}"}, "chatTemplate": {"inline": CHAT_TEMPLATE}},
        "tuning": {"full": {}},
        "hyperparameters": HYPERPARAMETERS,
        "output": {"uri": "pvc://out"},
    }


def _rows() -> list[dict[str, str]]:
    """Each question with its right answer in each form."""
    own, package = (task.training() for task in (tasks.ARITHMETIC, tasks.PACKAGE))
    asked = [*own, *package * PACKAGE_REPEATED]
    return [{"prompt": one.text, "completion": form.format(gold=one.gold)} for one in asked for form in FORMS]
