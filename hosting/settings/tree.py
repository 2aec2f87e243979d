"""Settings before validation: plain values, and for each of them where it was set."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

KeyPath = tuple[str | int, ...]


@dataclass(slots=True)
class SettingsTree:
    """Values by key, and for each key where it was set: ``file:line`` or a variable's name."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin_of(self, path: KeyPath) -> str | None:
        """Return where the value at ``path``, or else the nearest thing around it, was set."""
        around = (path[:length] for length in range(len(path), 0, -1))
        return next((self.origins[part] for part in around if part in self.origins), None)

    def replace(self, path: tuple[str, ...], value: Any, origin: str) -> bool:
        """Put a value in the place of what stands at ``path``; False where a parent is neither missing nor keys."""
        parent = self.values
        for key in path[:-1]:
            inner = parent.get(key)
            if inner is None:
                inner = parent[key] = {}
            if not isinstance(inner, dict):
                return False
            parent = inner
        parent[path[-1]] = value
        self.origins = {key: known for key, known in self.origins.items() if key[: len(path)] != path}
        self.origins[path] = origin
        return True


def format_path(path: KeyPath) -> str:
    """Return a key as people write it: ``listeners[0].path``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the known name most like ``name``, or nothing."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
