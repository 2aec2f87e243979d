"""Fills a settings model from its sources and says everything that is wrong, at once, without any value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from hosting.errors import SettingsError
from hosting.settings.environment import read_environment
from hosting.settings.model import element_annotations, list_fields, member_models
from hosting.settings.tree import KeyPath, SettingsTree, format_path, suggest
from hosting.settings.yaml_file import read_settings_file

M = TypeVar("M", bound=BaseModel)

# Pydantic's own texts name the expectation alone; all others are by whoever wrote the check.
_OWN_TEXTS: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}
# Shorter values occur in any sentence.
_MIN_QUOTED_CHARACTERS: Final = 3


@dataclass(frozen=True, slots=True)
class LoadedSettings(Generic[M]):
    """Settings, and where each value that is not a default was set: ``file:line`` or a variable's name."""

    settings: M
    origins: Mapping[KeyPath, str]


def load_settings(
    model: type[M],
    *,
    file: Path | None,
    env_prefix: str,
    environ: Mapping[str, str],
    other_variables: frozenset[str] = frozenset(),
) -> M:
    """Return the settings of a program.

    Args:
        model: What to fill, a ``SettingsModel``.
        file: YAML file, if there is one.
        env_prefix: What the program's variables start with: upper case, ``_`` at the end.
        environ: Environment variables; those with the prefix win over the file.
        other_variables: Names with the prefix that somebody else reads, such as the command line.

    Raises:
        SettingsError: A file that cannot be read, unknown keys or variables, values that the model refuses. Each
            problem names the key, where it was set, and the nearest valid name; none shows a value.
    """
    loaded = load_settings_with_origins(
        model, file=file, env_prefix=env_prefix, environ=environ, other_variables=other_variables
    )
    return loaded.settings


def load_settings_with_origins(
    model: type[M],
    *,
    file: Path | None,
    env_prefix: str,
    environ: Mapping[str, str],
    other_variables: frozenset[str] = frozenset(),
) -> LoadedSettings[M]:
    """Return the settings as ``load_settings`` does, and where each value was set."""
    fields = list_fields(model)
    tree = SettingsTree() if file is None else read_settings_file(file)
    values, problems = read_environment(fields, env_prefix=env_prefix, environ=environ, other_variables=other_variables)
    for field, value in values:
        variable = field.variable(env_prefix)
        if not tree.replace(field.path, value, variable):
            problems.append(f"{variable}: the file gives a value where this variable needs keys")
    unknown = dict(_find_unknown(tree.values, [model], ()))
    problems += [_locate(tree, path, f"unknown key{suggestion}") for path, suggestion in unknown.items()]
    variables = {field.key: field.variable(env_prefix) for field in fields}
    settings, refused = _validate(model, tree.values)
    for error in refused:
        path = _path_in(tree.values, error)
        if path not in unknown:
            problems.append(_locate(tree, path, _expectation(error, variables.get(format_path(path)))))
    if settings is None or problems:
        raise SettingsError(*problems)
    return LoadedSettings(settings, dict(tree.origins))


def _validate(model: type[M], values: dict[str, Any]) -> tuple[M | None, list[ErrorDetails]]:
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _find_unknown(value: Any, annotations: list[Any], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    models = [model for annotation in annotations for model in member_models(annotation)]
    if models and isinstance(value, dict):
        known: dict[str, list[Any]] = {}
        for model in models:
            for name, info in model.model_fields.items():
                known.setdefault(name, []).append(info.annotation)
        for key, item in value.items():
            if key in known:
                yield from _find_unknown(item, known[key], (*path, key))
            else:
                yield (*path, key), suggest(key, known)
        return
    elements = [element for annotation in annotations for element in element_annotations(annotation)]
    for key, item in _items_of(value):
        yield from _find_unknown(item, elements, (*path, key))


def _items_of(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _path_in(values: Any, error: ErrorDetails) -> KeyPath:
    """Return where an error lies in the values; pydantic's own location also names the members of unions."""
    location, is_missing = error["loc"], error["type"] == "missing"
    matches = _matches(values, location[:-1] if is_missing else location)
    path = max((path for path, value in matches if isinstance(value, dict) or not is_missing), key=len)
    return (*path, location[-1]) if is_missing else path


def _matches(values: Any, location: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every path, and the value at its end, that reads the location with some of its parts left out."""
    if not location:
        yield (), values
        return
    yield from _matches(values, location[1:])
    found = dict(_items_of(values))
    if location[0] in found:
        for path, value in _matches(found[location[0]], location[1:]):
            yield (location[0], *path), value


def _locate(tree: SettingsTree, path: KeyPath, problem: str) -> str:
    parts = (tree.origin_of(path), format_path(path), problem)
    return ": ".join(part for part in parts if part)


def _expectation(error: ErrorDetails, variable: str | None) -> str:
    kind = error["type"]
    if kind == "missing":
        return "required" if variable is None else f"required, in the file or as {variable}"
    if kind == "extra_forbidden":
        return "unknown key here"
    if kind == "union_tag_invalid":
        context = error.get("ctx", {})
        return f"expected one of {context.get('expected_tags')} as {context.get('discriminator')}"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind not in _OWN_TEXTS and _quotes(text, error["input"]):
        return "refused by its check"
    return text


def _quotes(text: str, value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_quotes(text, item) for _, item in _items_of(value))
    shown = str(value)
    return len(shown) >= _MIN_QUOTED_CHARACTERS and shown in text
