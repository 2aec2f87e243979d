"""Recognises what kind of file it is by its first line. Errors name known columns only: a file without a header starts with a person."""

import csv
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

from feed.errors import UnreadableImport
from feed.intake.imports.delimited import BYTE_ORDER_MARK, MAX_LINE_BYTES, read_lines

HEAD_BYTES = MAX_LINE_BYTES + 1
"""How much of a file `recognise_shape` wants to see."""

IDENTIFIER_COLUMNS = ("email", "phone", "user", "device")
PLAIN_COLUMNS = (*IDENTIFIER_COLUMNS, "namespace", "identifier", "purpose", "action", "occurred_at")

_DELIMITERS = (";", ",", "\t")
_EXPECTED = (
    "a plain file has the columns email (or phone, user, device, or namespace and identifier), purpose, action and, "
    "if times are known, occurred_at; a Mailchimp export of unsubscribed contacts has Email Address and UNSUB_TIME"
)
# Enough of each header that no other export has it; lower-case.
_FOREIGN = {
    "Mailgun": {"address", "tags", "created_at"},
    "Telnyx": {"to", "reason", "scope", "status", "expires_at"},
    "Transcend": {"identifier", "timestamp"},
}


class ShapeName(StrEnum):
    """Files that can be imported."""

    PLAIN = "plain"
    MAILCHIMP = "mailchimp"


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file is to be read.

    Attributes:
        name: Whose it is.
        delimiter: Between cells.
        columns: Place of each column that is used, from 0, by the name that this program knows it under.
        width: Cells of a row.
    """

    name: ShapeName
    delimiter: str
    columns: Mapping[str, int]
    width: int


def recognise_shape(head: bytes) -> Shape:
    """What kind of file starts with these bytes.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of it.

    Raises:
        UnreadableImport: None that can be imported; the text says what it looks like, or what is missing.
    """
    _refuse_json(head)
    line = next(read_lines(BytesIO(head)), "")
    if not line.strip():
        raise UnreadableImport("line 1: the file has no header")
    if line.strip().endswith((",BOUNCE", ",COMPLAINT")):
        raise _not_yet("an Amazon SES export (a CSV without a header)")
    headers = {delimiter: _split(line, delimiter) for delimiter in _DELIMITERS}
    for delimiter, names in headers.items():
        _refuse_foreign_header(names)
        shape = _match_mailchimp(names, delimiter) or _match_plain(names, delimiter)
        if shape is not None:
            return shape
    raise UnreadableImport(_describe_unknown(max(headers.values(), key=len)))


def _split(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    return [cell.strip().lower() for cell in cells]


def _refuse_json(head: bytes) -> None:
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"["):
        raise _not_yet("a SendGrid export (a JSON list)")
    if start.startswith(b"{"):
        raise _not_yet("an Amazon SES export (one JSON object a line)" if b"EmailAddress" in start else "a JSON file")


def _refuse_foreign_header(names: Iterable[str]) -> None:
    for provider, header in _FOREIGN.items():
        if header.issubset(names):
            raise _not_yet(f"a {provider} export")


def _not_yet(what: str) -> UnreadableImport:
    return UnreadableImport(f"line 1: this looks like {what}, which this version cannot import")


def _match_mailchimp(names: list[str], delimiter: str) -> Shape | None:
    if "email address" not in names or not {"leid", "euid", "unsub_time"}.intersection(names):
        return None
    if "unsub_time" not in names:
        raise UnreadableImport(
            "line 1: this looks like a Mailchimp export of contacts who have not unsubscribed: there is no column UNSUB_TIME"
        )
    # Other columns may have any name, twice too; the two that count must be there once.
    columns = {"email": "email address", "occurred_at": "unsub_time"}
    for name in columns.values():
        if names.count(name) > 1:
            raise UnreadableImport(f"line 1: there are two columns {name.upper().replace(' ', '_')}")
    return Shape(
        ShapeName.MAILCHIMP, delimiter, {ours: names.index(theirs) for ours, theirs in columns.items()}, len(names)
    )


def _match_plain(names: list[str], delimiter: str) -> Shape | None:
    if "action" not in names or "purpose" not in names:
        return None
    for number, name in enumerate(names, start=1):
        # A column that is passed over in silence could be a mistyped one, and its times or purposes would be lost.
        if name not in PLAIN_COLUMNS:
            raise UnreadableImport(f"line 1: column {number} is not known{_suggest(name)}; {_EXPECTED}")
        if names.count(name) > 1:
            raise UnreadableImport(f"line 1: there are two columns {name}")
    identifiers = [name for name in names if name in IDENTIFIER_COLUMNS]
    if {"namespace", "identifier"}.issubset(names):
        identifiers.append("identifier")
    elif {"namespace", "identifier"}.intersection(names):
        raise UnreadableImport("line 1: namespace and identifier go together, and only one of them is there")
    if len(identifiers) != 1:
        found = f"there are {len(identifiers)}" if identifiers else "there is none"
        raise UnreadableImport(f"line 1: one column must hold the identifier, and {found}; {_EXPECTED}")
    return Shape(ShapeName.PLAIN, delimiter, {name: place for place, name in enumerate(names)}, len(names))


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(name[:64], PLAIN_COLUMNS, n=1)
    return f", did you mean {near[0]}?" if near else ""


def _describe_unknown(names: list[str]) -> str:
    known = sorted({"email address", *PLAIN_COLUMNS}.intersection(names))
    which = f"of which {', '.join(known)} are known" if known else "of which none is known"
    return f"line 1: unknown shape: {len(names)} columns (split at semicolons, commas or tabs), {which}; {_EXPECTED}"
