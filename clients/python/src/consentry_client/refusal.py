"""The server's stable name for an error, which travels beside gRPC's status."""

import re
from collections.abc import Iterable

_KEY = "consentry-reason"
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def read_error_reason(trailing_metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Returns the name from trailing metadata, or nothing where there is none or it has another form."""
    for key, value in trailing_metadata or ():
        if key == _KEY and isinstance(value, str) and _REASON.fullmatch(value):
            return value
    return ""
