"""The reward json_schema: whether an answer is JSON that fits a schema."""

import json
from typing import Any

import jsonschema
import jsonschema.exceptions
import referencing
from jsonschema.protocols import Validator

from posttrain_trainer.rewards import json_answer
from posttrain_trainer.rewards.bounded import Bounded
from posttrain_trainer.rewards.failure import RewardFailed

COLUMN = "schema"
_SECONDS = 3


class JsonSchema:
    """Fits answers to the schema of the reward, or to each row's own."""

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self._schema = schema
        self._fits = Bounded(f"{__name__}:fits", seconds=_SECONDS)

    def __call__(self, answer: str, columns: dict[str, Any]) -> float:
        """1 where the answer fits, else 0; RewardFailed where the schema's patterns take too long."""
        try:
            value = json_answer.read(answer)
        except ValueError:
            return 0.0
        try:
            return float(self._fits(value, wanted(self._schema, columns)))
        except ValueError as error:
            raise RewardFailed(str(error)) from None
        except TimeoutError as error:
            raise RewardFailed(
                f"the schema takes {error} on an answer of {len(answer)} characters: write its patterns without "
                "repetition within repetition"
            ) from None


def wanted(schema: dict[str, Any] | None, columns: dict[str, Any]) -> dict[str, Any]:
    """The schema of a row; ValueError where there is none."""
    found = columns.get(COLUMN) if schema is None else schema
    found = json.loads(found) if isinstance(found, str) else found
    if not isinstance(found, dict):
        raise ValueError(f'no JSON object in the column "{COLUMN}": write one, or jsonSchema in the reward')
    return found


def check(schema: dict[str, Any] | None, columns: dict[str, Any]) -> None:
    """ValueError says what is wrong with a row's schema."""
    found = wanted(schema, columns)
    try:
        jsonschema.validators.validator_for(found).check_schema(found)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the schema is no JSON Schema: {error.json_path}: {error.message[:120]}") from None


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value fits a schema, which may take forever; ValueError where it refers to what is not in it."""
    kind: type[Validator] = jsonschema.validators.validator_for(schema)
    nothing_else: Any = referencing.Registry()
    try:
        return bool(kind(schema, registry=nothing_else).is_valid(value))
    except referencing.exceptions.Unresolvable as error:
        raise ValueError(f"the schema refers to {error.ref}, which is not in it: write it out") from None
