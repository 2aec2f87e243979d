"""What a sidecar signs about its journal: how far each chain of segments goes, and what of it was disposed of.

Heads are small statements, made every few seconds and at every end. The feed logs them, so that a journal that was cut, rewritten or
deleted shows, back to the last head logged. docs/decision-record.md says when they are made.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import sha256
from typing import Any, Final

from consent import encoding as wire
from consent.eventlog.errors import EventLogError, InvalidJournalHead, WrongKeyKind
from consent.eventlog.keys import SIGNATURE_BYTES, KeyKind, SigningKey, VerifierKey

NO_HEAD: Final = bytes(32)
"""What the first head of a chain names as the head before it."""
NO_ID: Final = bytes(16)
"""In the place of a decision id where there was no decision."""

_UNSIGNED: Final = bytes(SIGNATURE_BYTES)


class HeadKind(IntEnum):
    """Why a head was made."""

    PERIODIC = 1
    SEGMENT_END = 2
    FINAL = 3
    RECOVERY = 4


class WeakestMode(IntEnum):
    """The weakest durability since the chain's beginning; a larger number promises less."""

    SYNC = 1
    GROUP = 2
    ASYNC = 3


class DisposalGround(IntEnum):
    """Why segments were disposed of."""

    AGE = 1
    SIZE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalHead:
    """How far a chain goes. Counts run from the chain's beginning.

    Attributes:
        sidecar_id: Who writes it.
        chain_id: 16 bytes.
        number: Of the head in its chain, from 0.
        kind: A `HeadKind`. A recovery head is about the chain of an earlier process that ended without a final one.
        at_ms: Unix ms by the sidecar's clock.
        segment: Number of the segment in which the chain ends here.
        frame: Frames in that segment before this head.
        chain_hash: 32 bytes, over everything before this head.
        decisions: Decisions recorded.
        first_id: Call id of the first record since the head before, `NO_ID` without one.
        last_id: Call id of the last one.
        answered: Decisions answered, as the service counts them; of a recovery head, as the last head says.
        unrecorded: Decisions answered without a record, as `allow_and_count` permits.
        weakest_mode: A `WeakestMode`.
        torn_bytes: Bytes of an unfinished frame behind the end; only a recovery head has any.
        previous_head_hash: `hash_head` of the head before, `NO_HEAD` for none.
        signature: Ed25519 by the sidecar's own key, 64 bytes.
    """

    sidecar_id: str
    chain_id: bytes
    number: int
    kind: int
    at_ms: int
    segment: int
    frame: int
    chain_hash: bytes
    decisions: int
    first_id: bytes = NO_ID
    last_id: bytes = NO_ID
    answered: int = 0
    unrecorded: int = 0
    weakest_mode: int = WeakestMode.GROUP
    torn_bytes: int = 0
    previous_head_hash: bytes = NO_HEAD
    signature: bytes = _UNSIGNED


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalDisposal:
    """The oldest segments of a chain were deleted: everything in them had been shipped, and their retention was over.

    Attributes:
        sidecar_id: Whose they were.
        chain_id: 16 bytes.
        first_segment: Number of the first one.
        last_segment: Number of the last one; all between are gone too.
        chain_hash: 32 bytes, after the last one: what the segment behind it names.
        decisions: Decisions in them.
        oldest_ms: Unix ms at which the first one was begun.
        newest_ms: Unix ms at which the one behind the last was begun.
        ground: A `DisposalGround`.
        disposed_at_ms: Unix ms by the sidecar's clock.
        signature: Ed25519 by the sidecar's own key, 64 bytes.
    """

    sidecar_id: str
    chain_id: bytes
    first_segment: int
    last_segment: int
    chain_hash: bytes
    decisions: int
    oldest_ms: int
    newest_ms: int
    ground: int
    disposed_at_ms: int
    signature: bytes = _UNSIGNED


HEAD: Final = wire.record(
    JournalHead,
    (
        ("sidecar_id", wire.STRING),
        ("chain_id", wire.raw(16)),
        ("number", wire.U64),
        ("kind", wire.U8),
        ("at_ms", wire.TIME),
        ("segment", wire.U64),
        ("frame", wire.U64),
        ("chain_hash", wire.HASH),
        ("decisions", wire.U64),
        ("first_id", wire.raw(16)),
        ("last_id", wire.raw(16)),
        ("answered", wire.U64),
        ("unrecorded", wire.U64),
        ("weakest_mode", wire.U8),
        ("torn_bytes", wire.U64),
        ("previous_head_hash", wire.HASH),
        ("signature", wire.raw(SIGNATURE_BYTES)),
    ),
)
"""The encoding of a head: in the journal, on the wire, and in JOURNAL_HEADS."""

DISPOSAL: Final = wire.record(
    JournalDisposal,
    (
        ("sidecar_id", wire.STRING),
        ("chain_id", wire.raw(16)),
        ("first_segment", wire.U64),
        ("last_segment", wire.U64),
        ("chain_hash", wire.HASH),
        ("decisions", wire.U64),
        ("oldest_ms", wire.TIME),
        ("newest_ms", wire.TIME),
        ("ground", wire.U8),
        ("disposed_at_ms", wire.TIME),
        ("signature", wire.raw(SIGNATURE_BYTES)),
    ),
)
"""The encoding of a disposal: in the journal, on the wire, and in DISPOSAL."""


def sign_head(head: JournalHead, key: SigningKey, origin: str) -> JournalHead:
    """Sign a head for one log (`origin`).

    Raises:
        WrongKeyKind: Not a sidecar's key.
    """
    signed: JournalHead = _sign(head, key, origin)
    return signed


def sign_disposal(disposal: JournalDisposal, key: SigningKey, origin: str) -> JournalDisposal:
    """Sign a disposal for one log (`origin`).

    Raises:
        WrongKeyKind: Not a sidecar's key.
    """
    signed: JournalDisposal = _sign(disposal, key, origin)
    return signed


def verify_head(head: JournalHead, origin: str, public_key: bytes) -> None:
    """Check that the sidecar of this key (32 bytes) has signed this head for this log.

    Raises:
        InvalidJournalHead: It has not.
    """
    _verify(head, origin, public_key)


def verify_disposal(disposal: JournalDisposal, origin: str, public_key: bytes) -> None:
    """Check that the sidecar of this key (32 bytes) has signed this disposal for this log.

    Raises:
        InvalidJournalHead: It has not.
    """
    _verify(disposal, origin, public_key)


def format_head(head: JournalHead) -> bytes:
    """The bytes of a head."""
    return HEAD.write(head)


def parse_head(head_bytes: bytes) -> JournalHead:
    """Read them back.

    Raises:
        InvalidJournalHead: Not what `format_head` writes.
    """
    head: JournalHead = _read(HEAD, head_bytes)
    return head


def format_disposal(disposal: JournalDisposal) -> bytes:
    """The bytes of a disposal."""
    return DISPOSAL.write(disposal)


def parse_disposal(disposal_bytes: bytes) -> JournalDisposal:
    """Read them back.

    Raises:
        InvalidJournalHead: Not what `format_disposal` writes.
    """
    disposal: JournalDisposal = _read(DISPOSAL, disposal_bytes)
    return disposal


def hash_head(head: JournalHead) -> bytes:
    """SHA-256 over a head's bytes, its signature too: what the next head names."""
    return sha256(format_head(head)).digest()


def _sign(statement: Any, key: SigningKey, origin: str) -> Any:
    if key.kind is not KeyKind.SIDECAR:
        raise WrongKeyKind("key: must be a sidecar's key")
    return replace(statement, signature=key.sign(_signed_bytes(statement, origin)))


def _verify(statement: Any, origin: str, public_key: bytes) -> None:
    try:
        key = VerifierKey(statement.sidecar_id, KeyKind.SIDECAR, public_key)
        key.verify(_signed_bytes(statement, origin), statement.signature)
    except EventLogError:
        raise InvalidJournalHead("journal head: not signed by the sidecar's key") from None


def _signed_bytes(statement: Any, origin: str) -> bytes:
    """The first line keeps heads, disposals and acknowledgements apart; with the origin none can be moved to another log."""
    is_head = isinstance(statement, JournalHead)
    kind, encoding = ("journal-head", HEAD) if is_head else ("journal-disposal", DISPOSAL)
    return f"consentry/{kind}/v1\n{origin}\n".encode() + encoding.write(replace(statement, signature=_UNSIGNED))


def _read(field: wire.Field, statement_bytes: bytes) -> Any:
    try:
        return wire.read_whole(field, statement_bytes)
    except wire.Truncated as error:
        raise InvalidJournalHead(f"journal head: {error}") from None
