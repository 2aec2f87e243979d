"""The base of every settings model, and what can be read off a model's fields."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

_CONTAINERS = (list, tuple, set, frozenset, dict)


class SettingsModel(BaseModel):
    """Base of settings models: frozen, and strict about keys.

    Every field needs a ``description`` that gives its unit; names carry units too (``_seconds``, ``_bytes``, ``_ms``).
    What is secret is a ``SecretStr``. Text raised by a validator names the expectation and not the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class SettingsField:
    """One field of a model, or of a model within it.

    Attributes:
        path: Keys from the root.
        info: What pydantic knows of it.
        variant: Name of the model that has the field, where several models may stand at its place.
    """

    path: tuple[str, ...]
    info: FieldInfo
    variant: str | None = None

    @property
    def key(self) -> str:
        """The field as the file's author writes it: ``cache.directory``."""
        return ".".join(self.path)

    def variable(self, env_prefix: str) -> str:
        """Return the environment variable that sets the field."""
        return env_prefix + "__".join(self.path).upper()


def list_fields(model: type[BaseModel], path: tuple[str, ...] = (), variant: str | None = None) -> list[SettingsField]:
    """Return the fields of a model and of the models within it, parents first; not those of list elements."""
    fields: list[SettingsField] = []
    for name, info in model.model_fields.items():
        field = SettingsField((*path, name), info, variant)
        fields.append(field)
        models = member_models(info.annotation)
        for member in models:
            fields += list_fields(member, field.path, member.__name__ if len(models) > 1 else variant)
    return fields


def union_members(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have, without ``Annotated`` and ``Union`` around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from union_members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from union_members(member)
    else:
        yield annotation


def member_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that may stand at a place with this annotation; a container's elements do not count."""
    return [
        member for member in union_members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)
    ]


def element_annotations(annotation: Any) -> list[Any]:
    """Return the annotations of a container's elements; of a mapping those of its values."""
    elements: list[Any] = []
    for member in union_members(annotation):
        origin = get_origin(member)
        arguments = [argument for argument in get_args(member) if argument is not Ellipsis]
        if is_container(member):
            elements += arguments[1:] if issubclass(origin or member, Mapping) else arguments
    return elements


def is_container(member: Any) -> bool:
    """Whether a type without unions holds elements."""
    origin = get_origin(member) or member
    return isinstance(origin, type) and issubclass(origin, _CONTAINERS)


def is_structured(annotation: Any) -> bool:
    """Whether a variable that sets the field holds JSON."""
    return bool(member_models(annotation)) or any(is_container(member) for member in union_members(annotation))


def is_nullable(annotation: Any) -> bool:
    """Whether the field can be nothing."""
    return any(member in (None, type(None)) for member in union_members(annotation))
