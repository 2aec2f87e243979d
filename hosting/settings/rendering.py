"""Shows the settings that are in force, as the file that would give them."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from hosting.settings.tree import KeyPath
from hosting.settings.yaml_file import format_settings


def render_settings(settings: BaseModel, origins: Mapping[KeyPath, str] | None = None) -> str:
    """Return settings as YAML, secrets masked.

    Args:
        settings: A filled model.
        origins: From ``LoadedSettings``; where each value was set is then said in a comment behind it.
    """
    # Only the JSON form masks SecretStr; the other one keeps the secret in reach.
    return "\n".join(_render_mapping(settings.model_dump(mode="json"), (), origins)) + "\n"


def _render_mapping(values: Mapping[str, Any], path: KeyPath, origins: Mapping[KeyPath, str] | None) -> list[str]:
    lines: list[str] = []
    indent = "  " * len(path)
    for key, value in values.items():
        place = (*path, key)
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{_render_plain(key)}:")
            lines += _render_mapping(value, place, origins)
            continue
        comment = "" if origins is None else f"  # {_origin_of(place, origins)}"
        if isinstance(value, list) and value:
            lines.append(f"{indent}{_render_plain(key)}:{comment}")
            lines += [f"{indent}  {line}" for line in format_settings(value).splitlines()]
        else:
            lines.append(f"{indent}{_render_plain(key)}: {_render_plain(value)}{comment}")
    return lines


def _origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    around = (path[:length] for length in range(len(path), 0, -1))
    return next((origins[part] for part in around if part in origins), "default")


def _render_plain(value: Any) -> str:
    text = format_settings(value).removesuffix("\n").removesuffix("\n...")
    # JSON is YAML too, and keeps a text with line breaks on one line.
    return json.dumps(value, ensure_ascii=False) if "\n" in text else text
