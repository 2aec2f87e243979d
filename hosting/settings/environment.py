"""Reads settings from environment variables, and finds those that nobody would read."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Never

from hosting.settings.model import SettingsField, is_nullable, is_structured
from hosting.settings.tree import suggest

# Kubernetes puts these into every container of a namespace that has a Service of that name.
_SERVICE_LINK: Final = re.compile(r"SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")


def read_environment(
    fields: Iterable[SettingsField],
    *,
    env_prefix: str,
    environ: Mapping[str, str],
    other_variables: frozenset[str] = frozenset(),
) -> tuple[list[tuple[SettingsField, Any]], list[str]]:
    """Return the values that variables set, parents before the fields within them, and what is wrong with the rest.

    Args:
        fields: All fields of the model.
        env_prefix: What the program's variables start with: upper case, ``_`` at the end.
        environ: All variables.
        other_variables: Names with the prefix that somebody else reads, such as the command line.
    """
    known = {field.variable(env_prefix): field for field in fields}
    values: list[tuple[SettingsField, Any]] = []
    problems: list[str] = []
    for name in sorted(environ):
        if not name.upper().startswith(env_prefix) or name in other_variables:
            continue
        if name not in known:
            problems.append(_describe_unknown(name, env_prefix, [*known, *other_variables]))
            continue
        try:
            values.append((known[name], _parse_variable(environ[name], known[name].info.annotation)))
        except ValueError:
            problems.append(f"{name}: expected JSON, a list or an object, no key in it twice")
    return sorted(values, key=lambda item: len(item[0].path)), problems


def _describe_unknown(name: str, env_prefix: str, known: list[str]) -> str:
    if _SERVICE_LINK.fullmatch(name.upper().removeprefix(env_prefix)):
        return f"{name}: unknown variable, made by Kubernetes for a Service; set enableServiceLinks: false on the pod"
    return f"{name}: unknown variable{suggest(name.upper(), known)}"


def _parse_variable(text: str, annotation: Any) -> Any:
    if not text and is_nullable(annotation):
        return None
    if not is_structured(annotation):
        return text
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key stands twice")
    return unique


def _refuse_constant(_: str) -> Never:
    raise ValueError("not a number of JSON")
