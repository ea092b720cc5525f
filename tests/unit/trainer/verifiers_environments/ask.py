"""Asks our side of the package verifiers what the tests want to know, once: loading the package takes seconds."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from posttrain_api.v1alpha1.environment import Dataset
from posttrain_trainer.packages import named
from posttrain_trainer.refusal import Refused

ANSWERS = ("2", "two", "It is 2, as everybody knows")
REFUSED = ("endless", "tools", "container", "several", "unscored", "nowhere")


def rows(environment: str, limit: int | None = None, **options: Any) -> list[dict[str, Any]]:
    """The rows of an environment."""
    dataset = Dataset(package=f"verifiers:{environment}", limit=limit, package_options=options or None)
    return [json.loads(line) for line in named.content(dataset).splitlines()]


def refusal(environment: str, **options: Any) -> str:
    """Why an environment cannot be had."""
    try:
        rows(environment, **options)
    except Refused as refused:
        return str(refused)
    return "not refused"


def scores(row: dict[str, Any], answers: Sequence[str]) -> list[float]:
    """What an environment says of answers to one row."""
    scoring = named.scoring(Dataset(package="verifiers:adding", package_options={"count": 9}))
    count = len(answers)
    arguments = scoring.arguments(answers, [row["gold"]] * count, [row] * count)
    return asyncio.run(scoring.function(**arguments))


made = rows("adding")
found = {
    "rows": made,
    "counts": {
        "limit 2": len(rows("adding", limit=2)),
        "count 7": len(rows("adding", count=7)),
        "endless, limit 3": len(rows("endless", limit=3)),
    },
    "scores": dict(zip(ANSWERS, scores(made[1], ANSWERS), strict=True)),
    "refused": {name: refusal(name) for name in REFUSED} | {"options": refusal("adding", number=3)},
}
print(json.dumps(found))
