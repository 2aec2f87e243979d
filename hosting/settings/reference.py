"""Writes the reference of a settings model, for the documentation."""

import enum
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from hosting.errors import SettingsError
from hosting.settings.model import SettingsField, element_annotations, is_container, member_models, union_members

_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (BaseModel, "section"),
    (bool, "true or false"),
    (int, "integer"),
    (float, "number"),
    (str, "text"),
    (PurePath, "path"),
    (SecretStr, "secret text"),
    (SecretBytes, "secret text"),
    (type(None), "nothing"),
)
_BOUNDS: Final = (
    (annotated_types.Ge, "ge", "≥ "),
    (annotated_types.Gt, "gt", "> "),
    (annotated_types.Le, "le", "≤ "),
    (annotated_types.Lt, "lt", "< "),
    (annotated_types.MinLen, "min_length", "length ≥ "),
    (annotated_types.MaxLen, "max_length", "length ≤ "),
)


def document_settings(model: type[BaseModel], env_prefix: str, title: str) -> str:
    """Return a Markdown section with one row for each setting: key, variable, type, default, meaning.

    Raises:
        SettingsError: A field has no description; the text names every such field.
    """
    fields = _fields_of(model, (), None)
    undescribed = [field.key for field in fields if not field.info.description]
    if undescribed:
        raise SettingsError(f"{model.__name__}: no description of {', '.join(undescribed)}")
    lines = [
        f"## {title}",
        "",
        f"A key's dots are the levels of the YAML file. Environment variables start with `{env_prefix}`, win over the",
        "file, take sections and lists as JSON, and set an optional setting to nothing when they are empty.",
        "",
        "| key | environment variable | type | default | meaning |",
        "|---|---|---|---|---|",
        *(_row(field, env_prefix) for field in fields),
    ]
    return "\n".join(lines) + "\n"


def _fields_of(model: type[BaseModel], path: tuple[str, ...], variant: str | None) -> list[SettingsField]:
    """Return the fields of a model, of the models within it, and, with ``[]`` in the key, of its lists' elements."""
    fields: list[SettingsField] = []
    for name, info in model.model_fields.items():
        fields.append(SettingsField((*path, name), info, variant))
        for place, models in (
            (name, member_models(info.annotation)),
            (f"{name}[]", [member for item in element_annotations(info.annotation) for member in member_models(item)]),
        ):
            for member in models:
                fields += _fields_of(member, (*path, place), member.__name__ if len(models) > 1 else variant)
    return fields


def _row(field: SettingsField, env_prefix: str) -> str:
    variable = "–" if "[]" in field.key else f"`{field.variable(env_prefix)}`"
    description = " ".join((field.info.description or "").split())
    meaning = f"({field.variant}) {description}" if field.variant else description
    cells = (f"`{field.key}`", variable, _kind_of_field(field.info), _default_of(field.info), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind_of_field(info: FieldInfo) -> str:
    bounds = [
        f"{sign}{getattr(item, name)}"
        for item in info.metadata
        for kind, name, sign in _BOUNDS
        if isinstance(item, kind)
    ]
    patterns = [f"like `{item.pattern}`" for item in info.metadata if getattr(item, "pattern", None)]
    return ", ".join([_kind_of(info.annotation), *bounds, *patterns])


def _kind_of(annotation: Any) -> str:
    return " or ".join(dict.fromkeys(_kind_of_member(member) for member in union_members(annotation)))


def _kind_of_member(member: Any) -> str:
    if get_origin(member) is Literal:
        return _one_of(get_args(member))
    if is_container(member):
        elements = " or ".join(dict.fromkeys(_kind_of(element) for element in element_annotations(member)))
        holder = "keys and values" if issubclass(get_origin(member) or member, dict) else "list"
        return f"{holder} of {elements}" if elements else holder
    if isinstance(member, type) and issubclass(member, enum.Enum):
        return _one_of(item.value for item in member)
    if isinstance(member, type):
        return next((text for kind, text in _KINDS if issubclass(member, kind)), member.__name__)
    return "nothing" if member is None else str(member)


def _one_of(values: Iterable[Any]) -> str:
    return " or ".join(f"`{value}`" for value in values)


def _default_of(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    default = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        return "see below"
    plain = to_jsonable_python(default)
    if plain is None:
        return "nothing"
    if plain in ([], {}, ""):
        return "empty"
    return f"`{plain}`" if isinstance(plain, str) else f"`{json.dumps(plain, ensure_ascii=False)}`"
