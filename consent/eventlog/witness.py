"""What a witness does (c2sp.org/tlog-witness), without its HTTP: read a request, judge it by what was seen before.

A witness that has cosigned a tree never cosigns one that does not start with it. So a log that shows two histories to two parties
cannot get both of them witnessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from consent.eventlog.checkpoint import Checkpoint, parse_checkpoint_text
from consent.eventlog.errors import EventLogError, InvalidSignature, MalformedNote
from consent.eventlog.keys import VerifierKey, parse_cosignature, verify_text_signature
from consent.eventlog.merkle import HASH_BYTES
from consent.eventlog.note_text import decode_base64, encode_base64
from consent.eventlog.proof import verify_consistency
from consent.eventlog.signed_note import Note, NoteSignature, format_note, parse_note

MAX_PROOF_LINES: Final = 63
MAX_REQUEST_BYTES: Final = 300 * 1024
"""A note of the largest size, and a proof."""

_OLD_SIZE: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIGNATURE_LINES: Final = re.compile(r"(\N{EM DASH} [^\n]+\n){1,64}")


class WitnessRefusal(EventLogError):
    """The witness does not cosign.

    Attributes:
        http_status: The status code that the protocol has for it.
    """

    reason: ClassVar[str] = "WITNESS_REFUSAL"
    http_status: ClassVar[int] = 400


class MalformedWitnessRequest(WitnessRefusal):
    """Not a request of the protocol, or an old size above the checkpoint's."""

    reason: ClassVar[str] = "MALFORMED_WITNESS_REQUEST"


class UnknownLog(WitnessRefusal):
    """A log that the witness does not watch."""

    reason: ClassVar[str] = "UNKNOWN_LOG"
    http_status: ClassVar[int] = 404


class NotTheLogs(WitnessRefusal):
    """None of the log's keys has signed the checkpoint."""

    reason: ClassVar[str] = "NOT_THE_LOGS"
    http_status: ClassVar[int] = 403


class OldSizeDiffers(WitnessRefusal):
    """The proof starts elsewhere than at the tree that was cosigned last. Expected after a restart: the client tries again.

    Attributes:
        size: Of the tree that was cosigned last.
    """

    reason: ClassVar[str] = "OLD_SIZE_DIFFERS"
    http_status: ClassVar[int] = 409

    def __init__(self, size: int) -> None:
        super().__init__("old: not the size that was cosigned last")
        self.size = size


class ForkSeen(WitnessRefusal):
    """The log has signed two trees of which neither starts with the other, or the proof that they do is missing."""

    reason: ClassVar[str] = "FORK_SEEN"
    http_status: ClassVar[int] = 422


class RootDiffers(ForkSeen):
    """The log has signed two trees of one size: whoever keeps both checkpoints can prove it."""

    reason: ClassVar[str] = "ROOT_DIFFERS"
    http_status: ClassVar[int] = 409


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """Body of `add-checkpoint`.

    Attributes:
        old_size: Size of the tree that the proof starts at.
        consistency_proof: RFC 6962 hashes.
        note: The signed checkpoint.
    """

    old_size: int
    consistency_proof: tuple[bytes, ...]
    note: Note


@dataclass(frozen=True, slots=True)
class SeenTree:
    """The largest tree of a log that was cosigned."""

    size: int
    root_hash: bytes


def format_witness_request(old_size: int, consistency_proof: Sequence[bytes], note_bytes: bytes) -> bytes:
    """Write the body of `add-checkpoint`."""
    lines = [f"old {old_size}", *map(encode_base64, consistency_proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + note_bytes


def parse_witness_request(body: bytes) -> WitnessRequest:
    """Read the body of `add-checkpoint`.

    Raises:
        MalformedWitnessRequest: Anything but what `format_witness_request` writes.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise MalformedWitnessRequest(f"body: over {MAX_REQUEST_BYTES} bytes")
    head, boundary, note_bytes = body.partition(b"\n\n")
    try:
        old_line, *proof_lines = head.decode("ascii").split("\n")
        note = parse_note(note_bytes)
    except (UnicodeDecodeError, MalformedNote):
        raise MalformedWitnessRequest("body: must be an old size, a proof, an empty line and a signed note") from None
    old = _OLD_SIZE.fullmatch(old_line)
    hashes = [decode_base64(line) for line in proof_lines]
    if not boundary or old is None or len(hashes) > MAX_PROOF_LINES:
        raise MalformedWitnessRequest("body: must begin with `old`, a size, and at most 63 lines of proof")
    proof = tuple(each for each in hashes if each is not None and len(each) == HASH_BYTES)
    if len(proof) != len(hashes):
        raise MalformedWitnessRequest("proof: each line must be a hash in canonical base64")
    return WitnessRequest(int(old[1]), proof, note)


def judge_witness_request(
    request: WitnessRequest, log_keys: Mapping[str, Sequence[VerifierKey]], seen: Mapping[str, SeenTree]
) -> Checkpoint:
    """Decide whether a checkpoint may be cosigned, in the order of the specification.

    Args:
        request: What came.
        log_keys: Keys of each watched log, by its origin.
        seen: What was cosigned last of each log, by its origin.

    Returns:
        The checkpoint: to be kept as the newest, durably, and only then cosigned.

    Raises:
        WitnessRefusal: As the subclass says.
    """
    try:
        checkpoint = parse_checkpoint_text(request.note.text)
    except EventLogError as error:
        raise MalformedWitnessRequest(f"checkpoint: {error}") from None
    if checkpoint.origin not in log_keys:
        raise UnknownLog("origin: not a log that is watched here")
    if not any(_has_signed(request.note, key) for key in log_keys[checkpoint.origin]):
        raise NotTheLogs("signatures: none by a key of the log verifies")
    if request.old_size > checkpoint.size:
        raise MalformedWitnessRequest("old: above the checkpoint's size")
    last = seen.get(checkpoint.origin)
    if request.old_size != (last.size if last is not None else 0):
        raise OldSizeDiffers(last.size if last is not None else 0)
    if last is None or last.size == 0:
        if request.consistency_proof:
            raise ForkSeen("proof: must be empty from an empty tree")
        return checkpoint
    if last.size == checkpoint.size and last.root_hash != checkpoint.root_hash:
        raise RootDiffers("root_hash: another one was cosigned for this size")
    try:
        verify_consistency(last.size, last.root_hash, checkpoint.size, checkpoint.root_hash, request.consistency_proof)
    except EventLogError:
        raise ForkSeen("proof: the tree does not start with the one that was cosigned last") from None
    return checkpoint


def format_cosignatures(signatures: Sequence[NoteSignature], text: str) -> bytes:
    """The answer of a witness: signature lines."""
    # The note's own form: what follows the empty line behind its text.
    return format_note(Note(text, tuple(signatures)))[len(text.encode()) + 1 :]


def read_cosignatures(answer: bytes, note: Note, witness_keys: Sequence[VerifierKey]) -> tuple[NoteSignature, ...]:
    """The lines of an answer that the given witness keys made over the note's text; others are passed over.

    Raises:
        MalformedNote: Not signature lines.
        InvalidSignature: One by a known key does not verify.
    """
    try:
        lines = answer.decode()
    except UnicodeDecodeError:
        raise MalformedNote("cosignatures: not UTF-8") from None
    if _SIGNATURE_LINES.fullmatch(lines) is None:
        raise MalformedNote("cosignatures: not one or more signature lines")
    parsed = parse_note(note.text.encode() + b"\n" + answer)
    known = {(key.name, key.key_id): key for key in witness_keys}
    kept = []
    for line in parsed.signatures:
        if key := known.get((line.name, line.key_id)):
            verify_text_signature(note.text, line, key)
            parse_cosignature(line.signature)
            kept.append(line)
    return tuple(kept)


def _has_signed(note: Note, key: VerifierKey) -> bool:
    for line in note.signatures:
        if (line.name, line.key_id) == (key.name, key.key_id):
            try:
                verify_text_signature(note.text, line, key)
            except InvalidSignature:
                return False
            return True
    return False
