"""How far each chain has been shipped, in a small file that survives a crash."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hosting.key_files import write_file_atomically
from journal.format import CHAIN_ID_BYTES
from sidecar.errors import SidecarError

POSITION_FILE_NAME: Final = "shipped.json"

_VERSION: Final = 1
_HASH_BYTES: Final = 32


class MalformedPosition(SidecarError):
    """The position file is not ours or was damaged. Expected after a repair by hand: everything is shipped again."""

    reason = "MALFORMED_POSITION"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a chain: everything before it is done.

    Attributes:
        segment: Number of the segment.
        offset: Byte in it at which the next frame begins.
        frame: Number of that frame.
        chain_hash: 32 bytes, after the frame before; empty where that is not known.
        decisions: Decisions of the chain up to here.
    """

    segment: int
    offset: int
    frame: int
    chain_hash: bytes
    decisions: int


def format_positions(positions: Mapping[bytes, Position]) -> bytes:
    """The content of a position file, from positions by chain id."""
    chains = {
        chain_id.hex(): asdict(position) | {"chain_hash": position.chain_hash.hex()}
        for chain_id, position in positions.items()
    }
    return json.dumps({"version": _VERSION, "chains": chains}, indent=1).encode("ascii") + b"\n"


def parse_positions(text: bytes) -> dict[bytes, Position]:
    """Positions by chain id from the content of a position file.

    Raises:
        MalformedPosition: Not what `format_positions` writes.
    """
    try:
        content = json.loads(text)
        if content["version"] != _VERSION:
            raise MalformedPosition("position file: another version")
        return {_parse_hex(name, CHAIN_ID_BYTES): _parse_one(fields) for name, fields in content["chains"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedPosition("position file: not the expected JSON") from None


def load_positions(path: Path) -> dict[bytes, Position]:
    """Positions by chain id, none where there is no file yet.

    Raises:
        MalformedPosition: As `parse_positions`.
        OSError: It cannot be read.
    """
    try:
        return parse_positions(path.read_bytes())
    except FileNotFoundError:
        return {}


def save_positions(path: Path, positions: Mapping[bytes, Position]) -> None:
    """Replace the file; when this returns, the positions are on the disk.

    Raises:
        OSError: They are not, and the old file is still whole.
    """
    write_file_atomically(path, format_positions(positions))


def _parse_one(fields: dict[str, Any]) -> Position:
    counts = [fields.pop(name) for name in ("segment", "offset", "frame", "decisions")]
    chain_hash = fields.pop("chain_hash")
    if fields or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError
    segment, offset, frame, decisions = counts
    return Position(segment, offset, frame, _parse_hex(chain_hash, _HASH_BYTES) if chain_hash else b"", decisions)


def _parse_hex(text: str, size_bytes: int) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != size_bytes:
        raise ValueError
    return value
