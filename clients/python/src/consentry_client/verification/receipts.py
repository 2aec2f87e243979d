"""Receipts (c2sp.org/tlog-proof with extra data of ours) and what they prove."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from consentry_client.errors import ConfigurationError
from consentry_client.verification.errors import InvalidReceipt
from consentry_client.verification.events import Occurrence, read_event
from consentry_client.verification.notes import (
    COSIGNER_KEY_TYPE,
    HASH_BYTES,
    LOG_KEY_TYPE,
    VerifierKey,
    decode_base64,
    parse_checkpoint,
    parse_number,
    verify_cosignature,
    verify_log_signature,
)

RECEIPT_BYTES_MAX = 6 * 1024 * 1024

_HEADER = "c2sp.org/tlog-proof@v1"
_EXTRA_VERSION = 1
_OPENING_END = 2 + 32
_PROOF_HASHES_MAX = 63


@dataclass(frozen=True, slots=True)
class ReceiptStatement:
    """What a receipt proves; nothing in it names the person.

    Attributes:
        reference: Of the request, as its answer had it.
        seq: Place of the entry in the log.
        origin: Name of the log.
        occurrence: What was recorded.
        checkpoint_size: Entries of the log when the receipt was made.
        checkpoint_time: When that was the whole log, by the cosigner; None where no cosigner's key was given.
    """

    reference: UUID
    seq: int
    origin: str
    occurrence: Occurrence
    checkpoint_size: int
    checkpoint_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Receipt:
    type_byte: int
    opening: bytes
    event_bytes: bytes
    index: int
    proof: tuple[bytes, ...]
    note_bytes: bytes


def verify_receipt(
    receipt_bytes: bytes, log_key: VerifierKey, cosigner_key: VerifierKey | None = None, *, origin: str | None = None
) -> ReceiptStatement:
    """Decides whether a receipt proves that its request is an entry of the log, and tells what the entry says.

    Args:
        receipt_bytes: The file's bytes.
        log_key: The log's public key, which did not come with the receipt.
        cosigner_key: If given, it must have cosigned.
        origin: Name of the log; default: the key's name.

    Raises:
        InvalidReceipt: It proves nothing; `reason` says why.
        ConfigurationError: A key is of another kind, or the extra `verify` is not installed.
    """
    if log_key.key_type != LOG_KEY_TYPE:
        raise ConfigurationError("KEY_KIND", "the log's key is not that of a log")
    if cosigner_key is not None and cosigner_key.key_type != COSIGNER_KEY_TYPE:
        raise ConfigurationError("KEY_KIND", "the cosigner's key is not that of a cosigner")
    # 1. The forms, and whose it claims to be.
    receipt = _parse_receipt(receipt_bytes)
    checkpoint = parse_checkpoint(receipt.note_bytes)
    occurrence = read_event(receipt.event_bytes)
    if receipt.event_bytes[1] != receipt.type_byte:
        raise _malformed("its type is not the event's")
    if not checkpoint.origin == occurrence.origin == (log_key.name if origin is None else origin):
        raise InvalidReceipt("ORIGIN_MISMATCH", "the receipt is of another log")
    # 2. The tree is the log's own word.
    verify_log_signature(checkpoint, log_key)
    cosigned_unix_seconds = verify_cosignature(checkpoint, cosigner_key) if cosigner_key is not None else None
    # 3. The event is in the tree, at the index.
    commitment = hashlib.sha256(receipt.opening + receipt.event_bytes).digest()
    leaf_hash = hashlib.sha256(b"\x00" + bytes((receipt.type_byte,)) + commitment).digest()
    _verify_inclusion(leaf_hash, receipt.index, checkpoint.size, receipt.proof, checkpoint.root_hash)
    return ReceiptStatement(
        reference=UUID(bytes=occurrence.request_id),
        seq=receipt.index + 1,
        origin=checkpoint.origin,
        occurrence=occurrence,
        checkpoint_size=checkpoint.size,
        checkpoint_time=_to_time(cosigned_unix_seconds),
    )


def _parse_receipt(receipt_bytes: bytes) -> _Receipt:
    head, boundary, note_bytes = receipt_bytes.partition(b"\n\n")
    if len(receipt_bytes) > RECEIPT_BYTES_MAX or not boundary or not head.isascii():
        raise _malformed("it is too long, or no checkpoint follows an empty line")
    lines = head.decode("ascii").split("\n")
    if len(lines) < 3 or lines[0] != _HEADER or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise _malformed("it does not begin with its header, extra data and index")
    extra, index = decode_base64(lines[1].removeprefix("extra ")), parse_number(lines[2].removeprefix("index "))
    if extra is None or len(extra) < _OPENING_END or extra[0] != _EXTRA_VERSION or index is None:
        raise _malformed("its extra data or its index have another form")
    proof = tuple(decode_base64(line) or b"" for line in lines[3:])
    if len(proof) > _PROOF_HASHES_MAX or any(len(node_hash) != HASH_BYTES for node_hash in proof):
        raise _malformed("its proof holds something that is no hash, or too many")
    return _Receipt(extra[1], extra[2:_OPENING_END], extra[_OPENING_END:], index, proof, note_bytes)


def _verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: tuple[bytes, ...], root_hash: bytes) -> None:
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        raise InvalidReceipt("PROOF_OUT_OF_RANGE", "the checkpoint is of a log without this entry")
    node, last, reached = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise InvalidReceipt("INVALID_PROOF", "the proof is too long")
        if node % 2 == 1 or node == last:
            reached = hashlib.sha256(b"\x01" + sibling + reached).digest()
            while node and node % 2 == 0:
                node, last = node // 2, last // 2
        else:
            reached = hashlib.sha256(b"\x01" + reached + sibling).digest()
        node, last = node // 2, last // 2
    if last != 0 or reached != root_hash:
        raise InvalidReceipt("INVALID_PROOF", "the proof does not lead from the event to the checkpoint")


def _to_time(unix_seconds: int | None) -> datetime | None:
    try:
        return None if unix_seconds is None else datetime.fromtimestamp(unix_seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _malformed(why: str) -> InvalidReceipt:
    return InvalidReceipt("MALFORMED_RECEIPT", f"the receipt cannot be read: {why}")
