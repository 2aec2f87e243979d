"""How errors quote a value and name the nearest valid one."""

import difflib
from collections.abc import Iterable, Mapping

_QUOTED_CHARACTERS = 80
_MAX_CANDIDATES = 2_000
_MAX_COMPARED_CHARACTERS = 64


def quote(value: object) -> str:
    """A value for an error text: cut at 80 characters, escaped so that it cannot forge lines or steer a terminal."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _QUOTED_CHARACTERS else f"{value[:_QUOTED_CHARACTERS]!r}…"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return (
        "a mapping"
        if isinstance(value, Mapping)
        else "a list"
        if isinstance(value, list | tuple)
        else type(value).__name__
    )


def suggest(word: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest valid word, or nothing when none is near.

    Case is ignored. Only the first 2,000 candidates are compared, so that an error about a huge policy comes at once.
    """
    if len(word) > _MAX_COMPARED_CHARACTERS:
        return ""
    candidates = {name.casefold(): name for name, _ in zip(valid, range(_MAX_CANDIDATES), strict=False)}
    near = difflib.get_close_matches(word.casefold(), candidates, n=1)
    return f"; did you mean {quote(candidates[near[0]])}?" if near else ""
