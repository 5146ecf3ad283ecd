"""What a configuration can say: every key with its type, unit, default and variable, and where each value comes from.

Read from the models themselves, so that `skywire config` and the documentation cannot lag behind the code.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from skywire_common.keys import PublicKey
from skywire_common.runtime.config import ENVIRONMENT_PREFIX

HIDDEN = "(hidden)"
_WORDS = {str: "text", int: "number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}


class Described(NamedTuple):
    """One key. `variable` is empty for keys within lists; `default` is None for a key without one."""

    key: str
    type: str
    unit: str
    required: bool
    default: Any
    variable: str
    meaning: str


class Shown(NamedTuple):
    """One key of a configuration in force; `source` is file, environment or default."""

    key: str
    value: Any
    source: str
    unit: str
    meaning: str


def described(settings: type[BaseModel]) -> list[Described]:
    """Return every key of a service's configuration; those of a list's items are named `list[].key`."""
    return list(_walk(settings, "", required=True))


def shown(loaded: BaseModel, document: Mapping[str, Any], environment: Mapping[str, str]) -> list[Shown]:
    """Return every key that is not a list's item, with its value and where that comes from; secrets are hidden."""
    values = loaded.model_dump(mode="json")
    variables = {name.upper() for name in environment}
    rows = []
    for row in described(type(loaded)):
        if "[]" in row.key:
            continue
        path = row.key.split(".")
        source = "environment" if _set_by(row.key, variables) else "file" if _has(document, path) else "default"
        value = HIDDEN if row.type == _WORDS[SecretStr] else _at(values, path)
        rows.append(Shown(row.key, value, source, row.unit, row.meaning))
    return rows


def _walk(model: type[BaseModel], prefix: str, *, required: bool) -> Iterator[Described]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner, many = _model(field.annotation)
        must = required and field.is_required()
        if inner is None or many:
            yield _described(key, field, must, inner)
        if inner is not None:
            yield from _walk(inner, f"{key}[]." if many else f"{key}.", required=must or many)


def _described(key: str, field: FieldInfo, required: bool, inner: type[BaseModel] | None) -> Described:
    extra = field.json_schema_extra
    unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return Described(
        key,
        "list" if inner is not None else _type(field.annotation, field.metadata),
        unit,
        required,
        None if default is PydanticUndefined else to_jsonable_python(default),
        "" if "[]" in key else _variable(key),
        field.description or "",
    )


def _type(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], metadata)
    if origin in (Union, types.UnionType):
        return _type(next(one for one in arguments if one is not type(None)), metadata)
    if origin is Literal:
        return ", ".join(str(one) for one in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0], [])}"
    if origin is dict:
        return "object"
    if isinstance(annotation, type) and issubclass(annotation, PublicKey):
        return "public key"
    if hasattr(annotation, "__members__"):
        return ", ".join(str(one.value) for one in annotation)
    return _WORDS.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a field holds, and whether it holds many."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    many = get_origin(annotation) is tuple
    for argument in get_args(annotation):
        found, more = _model(argument)
        if found is not None:
            return found, many or more
    return None, False


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _set_by(key: str, variables: set[str]) -> bool:
    parts = key.split(".")
    return any(_variable(".".join(parts[:end])) in variables for end in range(1, len(parts) + 1))


def _at(values: Any, path: list[str]) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _has(document: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(document, Mapping) or part not in document:
            return False
        document = document[part]
    return True
