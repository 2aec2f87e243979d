"""The file form of a trail: one line of canonical JSON, bytes in base64. `format_trail(parse_trail(x)) == x`."""

import json
from typing import Any, Final

from consent.eventlog.errors import MalformedTrail
from consent.eventlog.note_text import decode_base64, encode_base64
from consent.trail import Trail, TrailEntry, TrailSidecar

_FORMAT: Final = "consentry/trail/v1"
_FIELDS: Final = frozenset({"format", "seq", "checkpoint", "entries", "sidecars"})
_ENTRY_FIELDS: Final = frozenset({"seq", "type", "audit_path", "opening", "event", "commitment"})
_SIDECAR_FIELDS: Final = frozenset({"sidecar_id", "enrol_seq", "receipts_seq", "consistency_proof"})
_MAX_NUMBER: Final = 2**63 - 1


def format_trail(trail: Trail) -> bytes:
    """Write a trail: sorted keys, no white space, a newline at the end."""
    content = {
        "format": _FORMAT,
        "seq": trail.seq,
        "checkpoint": encode_base64(trail.checkpoint_note),
        "entries": [_format_entry(entry) for entry in trail.entries],
        "sidecars": [
            {
                "sidecar_id": sidecar.sidecar_id,
                "enrol_seq": sidecar.enrol_seq,
                "receipts_seq": sidecar.receipts_seq,
                "consistency_proof": [encode_base64(node) for node in sidecar.consistency_proof],
            }
            for sidecar in trail.sidecars
        ],
    }
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return f"{text}\n".encode("ascii")


def _format_entry(entry: TrailEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "type": entry.type_byte,
        "audit_path": [encode_base64(node) for node in entry.audit_path],
        "opening": encode_base64(entry.opening),
        "event": encode_base64(entry.event_bytes),
        "commitment": encode_base64(entry.commitment),
    }


def parse_trail(trail_bytes: bytes) -> Trail:
    """Read a trail, strictly; nothing of it is verified.

    Raises:
        MalformedTrail: Not JSON, a field missing, unknown or wrong, or not in canonical form.
    """
    content = _load(trail_bytes)
    _check_fields(content, _FIELDS, "trail")
    if content["format"] != _FORMAT:
        raise MalformedTrail("format: unknown")
    trail = Trail(
        seq=_number(content["seq"], "seq"),
        checkpoint_note=_bytes(content["checkpoint"], "checkpoint"),
        entries=tuple(_parse_entry(entry) for entry in _list(content["entries"], "entries")),
        sidecars=tuple(_parse_sidecar(sidecar) for sidecar in _list(content["sidecars"], "sidecars")),
    )
    if format_trail(trail) != trail_bytes:
        raise MalformedTrail("trail: not in canonical form")
    return trail


def _parse_entry(value: Any) -> TrailEntry:
    _check_fields(value, _ENTRY_FIELDS, "entries")
    return TrailEntry(
        seq=_number(value["seq"], "entries.seq"),
        type_byte=_number(value["type"], "entries.type", 0xFF),
        audit_path=_hashes(value["audit_path"], "entries.audit_path"),
        opening=_bytes(value["opening"], "entries.opening"),
        event_bytes=_bytes(value["event"], "entries.event"),
        commitment=_bytes(value["commitment"], "entries.commitment"),
    )


def _parse_sidecar(value: Any) -> TrailSidecar:
    _check_fields(value, _SIDECAR_FIELDS, "sidecars")
    if not isinstance(value["sidecar_id"], str):
        raise MalformedTrail("sidecars.sidecar_id: must be a string")
    return TrailSidecar(
        sidecar_id=value["sidecar_id"],
        enrol_seq=_number(value["enrol_seq"], "sidecars.enrol_seq"),
        receipts_seq=_number(value["receipts_seq"], "sidecars.receipts_seq"),
        consistency_proof=_hashes(value["consistency_proof"], "sidecars.consistency_proof"),
    )


def _load(trail_bytes: bytes) -> Any:
    try:
        return json.loads(trail_bytes.decode("ascii"))
    except (ValueError, RecursionError):
        # The decoder's own message may quote the text.
        raise MalformedTrail("trail: not JSON") from None


def _check_fields(value: Any, fields: frozenset[str], place: str) -> None:
    if not isinstance(value, dict) or set(value) != fields:
        raise MalformedTrail(f"{place}: must be an object with exactly the fields {', '.join(sorted(fields))}")


def _number(value: Any, field: str, maximum: int = _MAX_NUMBER) -> int:
    # Not isinstance: True is an int to Python and not to JSON.
    if type(value) is not int or not 0 <= value <= maximum:
        raise MalformedTrail(f"{field}: must be a whole number in range")
    return value


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedTrail(f"{field}: must be a list")
    return value


def _bytes(value: Any, field: str) -> bytes:
    content = decode_base64(value) if isinstance(value, str) else None
    if content is None:
        raise MalformedTrail(f"{field}: must be canonical base64")
    return content


def _hashes(value: Any, field: str) -> tuple[bytes, ...]:
    return tuple(_bytes(item, field) for item in _list(value, field))
