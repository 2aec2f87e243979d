"""Receipts: proof for a requester that its request is an entry of the log, checked offline with the log's public key.

A receipt is a C2SP tlog-proof (c2sp.org/tlog-proof): a line `c2sp.org/tlog-proof@v1`, a line `extra` with what the leaf commits to,
a line `index`, the inclusion proof, an empty line, and the signed checkpoint. Our extra data are u8 version (1), u8 type, opening (32),
event bytes, so that a reader computes the leaf itself and asks nobody. They hold the subject's token: a receipt is for the requester.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from consent.errors import MalformedEvent, UnknownEventType
from consent.event import MAX_EVENT_BYTES, Event, EventType, OpaqueEvent, parse_event
from consent.eventlog.checkpoint import Checkpoint, parse_checkpoint_text
from consent.eventlog.errors import EventLogError, InsufficientSignatures, OriginMismatch, WrongKeyKind
from consent.eventlog.keys import KeyKind, VerifierKey, parse_cosignature, verified_signatures, verify_note
from consent.eventlog.merkle import HASH_BYTES, MAX_TREE_SIZE, OPENING_BYTES, commit, hash_leaf, leaf_data
from consent.eventlog.note_text import decode_base64, encode_base64
from consent.eventlog.proof import verify_inclusion
from consent.eventlog.signed_note import MAX_NOTE_BYTES, Note, parse_note

HEADER: Final = "c2sp.org/tlog-proof@v1"
EXTRA_VERSION: Final = 1
MAX_PROOF_HASHES: Final = 63
#: The largest note, the largest event in base64, and the lines of the proof.
MAX_RECEIPT_BYTES: Final = MAX_NOTE_BYTES + MAX_EVENT_BYTES * 4 // 3 + 4096
#: What became of a request of a source; nothing else has a requester.
OUTCOME_TYPES: Final = frozenset(
    {
        EventType.DIRECTIVE,
        EventType.LINK,
        EventType.UNLINK,
        EventType.FACT,
        EventType.RESTRICTION,
        EventType.REJECTED,
    }
)

_EXTRA_HEAD_BYTES: Final = 2
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class MalformedReceipt(EventLogError):
    """Bytes are not a receipt: not a tlog-proof, without the extra data, or about something that is no request."""

    reason = "MALFORMED_RECEIPT"


@dataclass(frozen=True, slots=True, repr=False)
class Receipt:
    """What a receipt holds, nothing of it verified.

    Attributes:
        type_byte: Type of the entry.
        opening: 32 bytes.
        event_bytes: Canonical event bytes.
        index: Of the leaf, from 0: `seq` - 1.
        proof: Sibling hashes from the leaf up, 32 bytes each.
        checkpoint_note: The signed checkpoint of the tree that the proof leads to.

    Raises:
        MalformedReceipt: A field cannot stand in a receipt.
    """

    type_byte: int
    opening: bytes
    event_bytes: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint_note: bytes

    def __post_init__(self) -> None:
        if self.type_byte not in OUTCOME_TYPES:
            raise MalformedReceipt("type: not that of a request's outcome")
        if len(self.opening) != OPENING_BYTES:
            raise MalformedReceipt(f"opening: must be {OPENING_BYTES} bytes")
        if not 0 <= self.index < MAX_TREE_SIZE:
            raise MalformedReceipt("index: out of range")
        if len(self.proof) > MAX_PROOF_HASHES or any(len(node_hash) != HASH_BYTES for node_hash in self.proof):
            raise MalformedReceipt(f"proof: must be at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves.

    Attributes:
        seq: Place of the entry in the log, from 1.
        event: The entry.
        checkpoint: The log's size and root by which it was proven.
        cosigned_unix_seconds: When the checkpoint was the newest, by the cosigners asked for; None where none was.
    """

    seq: int
    event: Event
    checkpoint: Checkpoint
    cosigned_unix_seconds: int | None = None


def format_receipt(receipt: Receipt) -> bytes:
    """Write a receipt."""
    extra = bytes((EXTRA_VERSION, receipt.type_byte)) + receipt.opening + receipt.event_bytes
    lines = (HEADER, f"extra {encode_base64(extra)}", f"index {receipt.index}", *map(encode_base64, receipt.proof))
    return "".join(f"{line}\n" for line in (*lines, "")).encode() + receipt.checkpoint_note


def parse_receipt(receipt_bytes: bytes) -> Receipt:
    """Read a receipt, strictly: `format_receipt` gives back the same bytes. The checkpoint is not read yet.

    Raises:
        MalformedReceipt: Too long, a line is missing or not in its one form, or the extra data are not ours.
    """
    if len(receipt_bytes) > MAX_RECEIPT_BYTES:
        raise MalformedReceipt(f"receipt: over {MAX_RECEIPT_BYTES} bytes")
    head, boundary, checkpoint_note = receipt_bytes.partition(b"\n\n")
    if not boundary or not head.isascii():
        raise MalformedReceipt("receipt: no empty line before the checkpoint, or letters beyond ASCII above it")
    lines = head.decode("ascii").split("\n", MAX_PROOF_HASHES + 4)
    if len(lines) < 3 or lines[0] != HEADER:
        raise MalformedReceipt("receipt: must begin with its header, extra data and index")
    extra = decode_base64(lines[1].removeprefix("extra ")) if lines[1].startswith("extra ") else None
    if extra is None or len(extra) < _EXTRA_HEAD_BYTES + OPENING_BYTES or extra[0] != EXTRA_VERSION:
        raise MalformedReceipt("extra (line 2): must be canonical base64 of a known version, type, opening and event")
    index = lines[2].removeprefix("index ")
    if not lines[2].startswith("index ") or _INDEX.fullmatch(index) is None:
        raise MalformedReceipt("index (line 3): must be a decimal number without leading zeros")
    proof = [decode_base64(line) for line in lines[3:]]
    event_start = _EXTRA_HEAD_BYTES + OPENING_BYTES
    return Receipt(
        type_byte=extra[1],
        opening=extra[_EXTRA_HEAD_BYTES:event_start],
        event_bytes=extra[event_start:],
        index=int(index),
        # What is no base64 has no length that a hash has.
        proof=tuple(node_hash or b"" for node_hash in proof),
        checkpoint_note=checkpoint_note,
    )


def verify_receipt(
    receipt_bytes: bytes,
    log_keys: Collection[VerifierKey],
    cosigner_keys: Collection[VerifierKey] = (),
    *,
    origin: str,
) -> VerifiedReceipt:
    """Decide whether a receipt proves that its event is an entry of the log.

    It proves nothing about what came later: the person may have said something else since.

    Args:
        receipt_bytes: The receipt as it came.
        log_keys: Any of them makes the checkpoint the log's.
        cosigner_keys: If given, one of them must have cosigned; the newest of their times is told.
        origin: Name of the log.

    Raises:
        WrongKeyKind: A key is not of the role that it is given for.
        MalformedReceipt, MalformedNote, MalformedCheckpoint: It, its checkpoint or its event has not the form that it must have.
        OriginMismatch: Checkpoint or event belongs to another log.
        InsufficientSignatures: None of the keys, or of the cosigners' keys, has signed the checkpoint.
        InvalidSignature: A signature by one of them does not verify.
        ProofOutOfRange, InvalidProof: The event is not that entry of the log.
    """
    # 1. Keys in their roles: a cosigner's word must not pass for the log's.
    if any(key.kind is not KeyKind.LOG for key in log_keys):
        raise WrongKeyKind("log_keys: must be a log's")
    if any(key.kind is not KeyKind.COSIGNER for key in cosigner_keys):
        raise WrongKeyKind("cosigner_keys: must be cosigners'")
    # 2. The forms, and whose it claims to be: cheap, before any signature.
    receipt = parse_receipt(receipt_bytes)
    note = parse_note(receipt.checkpoint_note)
    checkpoint = parse_checkpoint_text(note.text)
    event = _read_event(receipt)
    if not checkpoint.origin == event.origin == origin:
        raise OriginMismatch("origin: another log's")
    # 3. The tree is the log's own word.
    verify_note(note, *log_keys)
    cosigned_unix_seconds = _newest_cosignature(note, cosigner_keys) if cosigner_keys else None
    # 4. The event is in the tree, at the index.
    leaf_hash = hash_leaf(leaf_data(receipt.type_byte, commit(receipt.opening, receipt.event_bytes)))
    verify_inclusion(leaf_hash, receipt.index, checkpoint.size, receipt.proof, checkpoint.root_hash)
    return VerifiedReceipt(receipt.index + 1, event, checkpoint, cosigned_unix_seconds)


def _read_event(receipt: Receipt) -> Event:
    try:
        event = parse_event(receipt.event_bytes)
    except (MalformedEvent, UnknownEventType) as error:
        raise MalformedReceipt(f"event: {error}") from None
    if isinstance(event, OpaqueEvent) or receipt.event_bytes[1] != receipt.type_byte:
        raise MalformedReceipt("event: not of the type that the receipt states, or of a version not known here")
    return event


def _newest_cosignature(note: Note, cosigner_keys: Collection[VerifierKey]) -> int:
    lines = verified_signatures(note, *cosigner_keys)
    times = [parse_cosignature(line.signature).time_unix_seconds for _, line in lines]
    if not times:
        raise InsufficientSignatures("signatures: none by a cosigner asked for")
    return max(times)
