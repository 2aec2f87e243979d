"""An approval as a file that people can read and hand on: a signed note whose text says exactly what was signed."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from consent.eventlog.attestation import APPROVAL_FORMAT, Attestation, approved_text
from consent.eventlog.errors import EventLogError, MalformedAttestation
from consent.eventlog.signed_note import Note, NoteSignature, format_note, parse_note

_TIME_LINE: Final = re.compile(r"time (0|[1-9][0-9]{0,15})")
_HEAD_LINES: Final = 3


class Approval(NamedTuple):
    """What one approver has signed; nothing here is verified.

    Attributes:
        origin: Name of the log.
        content: Lines that say what is approved (`consent.authority.approved_content`).
        attestation: The signature.
    """

    origin: str
    content: tuple[str, ...]
    attestation: Attestation


def format_approval(origin: str, content: Sequence[str], attestation: Attestation) -> bytes:
    """The bytes of an approval file.

    Raises:
        EventLogError: A part cannot stand in a note.
    """
    text = approved_text(origin, attestation.signed_at_unix_seconds, content)
    return format_note(Note(text, (NoteSignature(attestation.key_name, attestation.key_id, attestation.signature),)))


def parse_approval(note_bytes: bytes) -> Approval:
    """Read an approval file, strictly: `format_approval` gives back the same bytes.

    Raises:
        MalformedAttestation: Not a signed note, not over an approval, or not with exactly one signature.
    """
    try:
        note = parse_note(note_bytes)
    except EventLogError as error:
        raise MalformedAttestation(f"approval: {error}") from None
    lines = note.text.removesuffix("\n").split("\n")
    time_line = _TIME_LINE.fullmatch(lines[2]) if len(lines) > _HEAD_LINES else None
    if lines[0] != APPROVAL_FORMAT or time_line is None or len(note.signatures) != 1:
        raise MalformedAttestation("approval: not a note over an approval with one signature")
    (signature,) = note.signatures
    attestation = Attestation(
        key_name=signature.name,
        key_id=signature.key_id,
        signed_at_unix_seconds=int(time_line[1]),
        signature=signature.signature,
    )
    return Approval(lines[1], tuple(lines[_HEAD_LINES:]), attestation)
