"""Rows of the table in memory, and the shapes that let one directive fit into ten bytes.

A row is 22 bytes, big-endian: bytes 2 to 13 of the token; u16 shape; u32 seq; u32 occurred_at_ms. A *shape* is everything else of a
directive: its say, and the upper halves of its seq and time. Shapes are few (people say the same few things; 2^32 ms are 50 days), so a
number stands for one and nothing is lost. What fits no shape is spilled: shape 0xFFFF, then the u64 offset of its spill record.

The first 16 bits of a token are its place in the table's index. The last 16 bits are not kept in memory: 112 bits tell subjects apart.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from consent.errors import MalformedState
from consent.state import Cluster, Member
from consent.state_record import format_cluster, join_records, parse_cluster, split_records
from consent.vocabulary.directive import Directive

ROW_BYTES = 22
KEY_BYTES = 12
KEY_SLICE = slice(2, 14)
"""What of a token is in its row."""
TAIL_SLICE = slice(14, 16)
"""What of a token is on disk only, so that a later key epoch can hash whole tokens."""
TAIL_BYTES = 2

PAYLOAD = struct.Struct(">HII")
SPILL_PAYLOAD = struct.Struct(">HQ")
PAYLOAD_BYTES = PAYLOAD.size
SPILLED = 0xFFFF
MAX_SHAPES = 0xFF00
"""Smaller than `SPILLED` in the upper byte, so that spilled rows can be found by that byte alone."""

_LOW = 0xFFFFFFFF
_NO_TOKEN = bytes(16)


class Shape(NamedTuple):
    """A directive without the lower halves of its seq and time; expiry and floor are none."""

    seq_high: int
    time_high: int
    purpose: str
    kind: int
    proof: int
    assurance: int
    subtree: bool
    notice_version: int
    recipient: str
    explicit: bool
    granted_by: int


class Shapes:
    """Numbered shapes; numbers never change once given."""

    def __init__(self, shapes: Iterable[Shape] = ()) -> None:
        self._shapes = list(shapes)
        self._numbers = {shape: number for number, shape in enumerate(self._shapes)}

    def __len__(self) -> int:
        return len(self._shapes)

    def copy(self) -> "Shapes":
        """Shapes that grow on their own."""
        return Shapes(self._shapes)

    def pack(self, directive: Directive) -> bytes | None:
        """The 10 bytes of a directive; None where it fits no shape (expiry, floor, too many shapes)."""
        if directive.expires_at_ms is not None or directive.floor_seq:
            return None
        shape = Shape(
            directive.seq >> 32,
            directive.occurred_at_ms >> 32,
            directive.purpose,
            directive.kind,
            directive.proof,
            directive.assurance,
            directive.subtree,
            directive.notice_version,
            directive.recipient,
            directive.explicit,
            directive.granted_by,
        )
        number = self._numbers.get(shape)
        if number is None:
            number = len(self._shapes)
            if number == MAX_SHAPES:
                return None
            self._shapes.append(shape)
            self._numbers[shape] = number
        return PAYLOAD.pack(number, directive.seq & _LOW, directive.occurred_at_ms & _LOW)

    def unpack(self, number: int, seq_low: int, time_low: int) -> Directive:
        """The directive again."""
        (
            seq_high,
            time_high,
            purpose,
            kind,
            proof,
            assurance,
            subtree,
            notice_version,
            recipient,
            explicit,
            granted_by,
        ) = self._shapes[number]
        return Directive(
            seq_high << 32 | seq_low,
            purpose,
            kind,
            time_high << 32 | time_low,
            proof,
            assurance,
            None,
            subtree,
            notice_version,
            recipient,
            explicit,
            granted_by,
        )


def format_shapes(shapes: Shapes) -> bytes:
    """The shapes in order, each as the record of a cluster that says it."""
    directives = (shapes.unpack(number, 0, 0) for number in range(len(shapes)))
    return join_records(format_cluster(Cluster((Member(_NO_TOKEN, (directive,)),))) for directive in directives)


def parse_shapes(shapes_bytes: bytes) -> Shapes:
    """Read them back.

    Raises:
        MalformedState: Not what `format_shapes` writes.
    """
    shapes = Shapes()
    for record in split_records(shapes_bytes):
        before = len(shapes)
        directives = parse_cluster(record).members[0].directives
        if len(directives) != 1 or shapes.pack(directives[0]) is None or len(shapes) == before:
            raise MalformedState("a shape is not one, or there twice")
    return shapes
