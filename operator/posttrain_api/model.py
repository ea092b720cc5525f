"""The base class of everything in the contract, and the pieces that turn a field into a CRD property."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

_CEL = "x-kubernetes-validations"


@dataclass(frozen=True)
class Check:
    """One rule over the fields of a model, said twice: to the API server in CEL, to everyone else in Python."""

    cel: str
    holds: Callable[[Any], bool]
    message: str
    """Names the field and says what to write instead."""


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

    checks: ClassVar[tuple[Check, ...]] = ()
    """What must hold between the fields; it becomes CEL rules of the CRD too."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        broken = [check.message for check in self.checks if not check.holds(self)]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core_schema)
        if cls.checks:
            schema = handler.resolve_ref_schema(reference)
            own = [rule(check.cel, check.message) for check in cls.checks]
            schema[_CEL] = [*schema.get(_CEL, []), *own]
        return reference

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
    return {_CEL: list(cel)}


def exactly_one(*names: str) -> Check:
    """The check that exactly one of these optional fields is given, by their names in JSON."""
    return Check(
        f"[{_present(names)}].exists_one(x, x)",
        lambda model: _num_given(model, names) == 1,
        f"give exactly one of {', '.join(names)}",
    )


def at_most_one(*names: str) -> Check:
    """The check that no two of these optional fields are given, by their names in JSON."""
    return Check(
        f"[{_present(names)}].filter(x, x).size() <= 1",
        lambda model: _num_given(model, names) <= 1,
        f"give at most one of {', '.join(names)}",
    )


def _present(names: tuple[str, ...]) -> str:
    return ", ".join(f"has(self.{name})" for name in names)


def _num_given(model: BaseModel, names: tuple[str, ...]) -> int:
    fields = {field.alias or name: name for name, field in type(model).model_fields.items()}
    return sum(getattr(model, fields[name]) is not None for name in names)


def immutable(name: str, *, required: bool = False) -> dict[str, str]:
    """The rule, for the parent of the field, that a field of a recipe is neither changed, added nor removed."""
    same = f"self.{name} == oldSelf.{name}"
    if not required:
        same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
    return rule(same, f"{name} is part of the recipe and cannot be changed: create a new TrainingRun")


@dataclass(frozen=True)
class patch_of:
    """For a field with a dict: any of the fields of a model, each typed as there, none required or filled in."""

    model: type[Model]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = self.model.model_json_schema(by_alias=True)
        properties = _inlined(whole["properties"], whole.get("$defs", {}))
        optional = {name: {k: v for k, v in schema.items() if k != "default"} for name, schema in properties.items()}
        return {"type": "object", "properties": optional}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema in which no part refers to another."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = definitions[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def list_map(*keys: str, max_items: int, **extra: Any) -> FieldInfo:
    """A list whose items are told apart by these keys, as server-side apply merges it."""
    schema = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys), **extra}
    field: FieldInfo = Field(max_length=max_items, json_schema_extra=schema)
    return field
