"""The base class of everything in the contract, and the pieces that turn a field into a CRD property."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo


class Model(BaseModel):
    """A frozen, closed value: unknown keys are errors, JSON is camelCase, attribute docstrings describe the fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, Any]:
        """The JSON object that Kubernetes and the wire see: camelCase, without absent fields."""
        return self.model_dump(mode="json", exclude_none=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields changed (not validated again)."""
        return self.model_copy(update=changes)


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL rule as `x-kubernetes-validations` wants it."""
    return {"rule": expression, "message": message}


def rules(*cel: dict[str, str]) -> dict[str, Any]:
    """CEL rules as extra keys of a JSON schema, for `json_schema_extra`."""
    return {"x-kubernetes-validations": list(cel)}


def exactly_one(*names: str) -> dict[str, str]:
    """The rule that exactly one of these optional fields is given."""
    present = ", ".join(f"has(self.{name})" for name in names)
    return rule(f"[{present}].exists_one(x, x)", f"give exactly one of {', '.join(names)}")


def immutable(name: str, *, required: bool = False) -> dict[str, str]:
    """The rule, for the parent of the field, that a field of a recipe is neither changed, added nor removed."""
    same = f"self.{name} == oldSelf.{name}"
    if not required:
        same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
    return rule(same, f"{name} is part of the recipe and cannot be changed: create a new TrainingRun")


def list_map(*keys: str, max_items: int, **extra: Any) -> FieldInfo:
    """A list whose items are told apart by these keys, as server-side apply merges it."""
    schema = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys), **extra}
    field: FieldInfo = Field(max_length=max_items, json_schema_extra=schema)
    return field
