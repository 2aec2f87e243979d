"""C2SP checkpoints (c2sp.org/tlog-checkpoint) and their verification under a trust file.

A checkpoint is believed only through `verify_checkpoint`: the log's signature says what the tree is, the cosigners' say
that it was the newest at a time. That time, and no clock of ours, is what freshness is counted from.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from consent.eventlog.errors import (
    BelowMinimumSize,
    InsufficientSignatures,
    KeyExpired,
    MalformedCheckpoint,
    OriginMismatch,
    WrongKeyKind,
)
from consent.eventlog.keys import (
    KeyKind,
    SigningKey,
    cosign,
    parse_cosignature,
    sign_text,
    verified_signatures,
)
from consent.eventlog.merkle import EMPTY_ROOT_HASH, HASH_BYTES, MAX_TREE_SIZE
from consent.eventlog.note_text import decode_base64, encode_base64, is_line
from consent.eventlog.signed_note import Note, NoteSignature, format_note, parse_note
from consent.eventlog.trust import Trust, TrustedKey

# At most 19 digits, so that int() never sees more than a size can have.
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log at one size.

    Attributes:
        origin: Name of the log.
        size: Number of leaves.
        root_hash: Root over them, 32 bytes.
        extensions: Opaque further lines; we write none.

    Raises:
        MalformedCheckpoint: A field cannot stand in a checkpoint, or an empty tree has another root than it can have.
    """

    origin: str
    size: int
    root_hash: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_line(self.origin):
            raise MalformedCheckpoint("origin: must be one line and not empty")
        if not 0 <= self.size <= MAX_TREE_SIZE:
            raise MalformedCheckpoint("size: out of range")
        if len(self.root_hash) != HASH_BYTES:
            raise MalformedCheckpoint(f"root_hash: must be {HASH_BYTES} bytes")
        if self.size == 0 and self.root_hash != EMPTY_ROOT_HASH:
            raise MalformedCheckpoint("root_hash: not that of the empty tree")
        if not all(is_line(extension) for extension in self.extensions):
            raise MalformedCheckpoint("extensions: each must be one line and not empty")


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that the trusted keys vouch for.

    Attributes:
        checkpoint: The log's size and root.
        time_ms: Unix ms at which the cosigners called it the newest. Neither judged against a clock nor against what
            was seen before: that is the caller's part.
        note_bytes: The signed note as it came, to store and to hand on.
        cosigner_names: Who cosigned and counted, the newest first.
        fresh_time_ms: Unix ms that freshness counts from: `time_ms`, or an earlier one where witnesses are demanded and saw it
            earlier; None where too few of them have.
    """

    checkpoint: Checkpoint
    time_ms: int
    note_bytes: bytes
    cosigner_names: tuple[str, ...]
    fresh_time_ms: int | None


def parse_checkpoint_text(text: str) -> Checkpoint:
    """Read the text of a checkpoint, strictly: `format_checkpoint_text` gives back the same text.

    Raises:
        MalformedCheckpoint: A line is missing, empty or not in its one form.
    """
    # Not splitlines(): that also splits at characters which a line may hold.
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "":
        raise MalformedCheckpoint("text: needs an origin, a size and a root hash, one per line")
    origin, size, root_hash, *extensions = lines
    if _SIZE.fullmatch(size) is None:
        raise MalformedCheckpoint("size (line 2): must be a decimal number without leading zeros")
    root = decode_base64(root_hash)
    if root is None:
        raise MalformedCheckpoint("root_hash (line 3): must be canonical base64")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def format_checkpoint_text(checkpoint: Checkpoint) -> str:
    """Write the text of a checkpoint: origin, size, root hash and extensions, one per line."""
    lines = (checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root_hash), *checkpoint.extensions)
    return "".join(f"{line}\n" for line in lines)


def sign_checkpoint(
    checkpoint: Checkpoint, log_key: SigningKey, cosigner_key: SigningKey, time_unix_seconds: int
) -> bytes:
    """Sign a checkpoint as the log and cosign it as of now.

    The caller must never sign two checkpoints of which one is not a prefix of the other.

    Returns:
        The signed note, the log's line first.

    Raises:
        WrongKeyKind: A key of another role.
        InvalidSignature: The time is out of range.
    """
    if log_key.kind is not KeyKind.LOG:
        raise WrongKeyKind("log_key: must be a log's key")
    text = format_checkpoint_text(checkpoint)
    return format_note(Note(text, (sign_text(text, log_key), cosign(text, cosigner_key, time_unix_seconds))))


def verify_checkpoint(note_bytes: bytes, trust: Trust, now_unix_seconds: int | None) -> VerifiedCheckpoint:
    """Decide whether a signed checkpoint is the trusted log's, and as of when.

    Lines by unknown keys are ignored. With a threshold of k, the time is the k-th newest among the cosigners, so that
    k - 1 liars cannot make a checkpoint look fresher. A cosigner counts once, even while it rotates its keys. The same holds for
    witnesses; where they are missing the checkpoint is the log's all the same, and only not fresh.

    Args:
        note_bytes: The signed note.
        trust: Whom to believe.
        now_unix_seconds: For a checkpoint that just arrived: keys must be in force now as well as at the signed time,
            and the trust file's minimum size applies. None for one of the past (stored, audited): keys are judged at
            the signed time alone and any size passes.

    Raises:
        MalformedNote: Not a signed note.
        MalformedCheckpoint: Not a checkpoint.
        OriginMismatch: Another log's.
        BelowMinimumSize: Smaller than the trust file allows.
        InvalidSignature: A line by a trusted key does not verify.
        InsufficientSignatures: The log or enough cosigners did not sign.
        KeyExpired: They did, but too many with keys not in force.
    """
    # 1. The form, and whose it claims to be: cheap, before any signature.
    note = parse_note(note_bytes)
    checkpoint = parse_checkpoint_text(note.text)
    if checkpoint.origin != trust.origin:
        raise OriginMismatch("origin: another log's")
    if now_unix_seconds is not None and checkpoint.size < trust.minimum_size:
        raise BelowMinimumSize("size: below the minimum of the trust file")
    # 2. Every line by a key we know must verify, counted or not: a known key's bad signature means tampering.
    log_lines = _verified_lines(note, trust.log_keys)
    cosigner_lines = _verified_lines(note, trust.cosigner_keys)
    if not log_lines:
        raise InsufficientSignatures("signatures: none by a trusted log key")
    # 3. The newest time of each cosigner, and from these the time that no single liar moves.
    newest_by_cosigner = _newest_times(cosigner_lines, now_unix_seconds)
    if len(newest_by_cosigner) < trust.cosigner_threshold:
        if len({key.verifier_key.name for key, _ in cosigner_lines}) < trust.cosigner_threshold:
            raise InsufficientSignatures("signatures: fewer cosigners than the trust file demands")
        raise KeyExpired("signatures: too many by cosigner keys that are not in force")
    newest_first = sorted(newest_by_cosigner, key=lambda name: (-newest_by_cosigner[name], name))
    time_unix_seconds = newest_by_cosigner[newest_first[trust.cosigner_threshold - 1]]
    # 4. A log signature carries no time of its own, so its key is judged at the cosigned one.
    if not any(_is_in_force(key, time_unix_seconds, now_unix_seconds) for key, _ in log_lines):
        raise KeyExpired("signatures: only by log keys that are not in force")
    # 5. What the witnesses, if any are demanded, say of the time.
    newest_by_witness = _newest_times(_verified_lines(note, trust.witness_keys), now_unix_seconds)
    fresh_unix_seconds = _fresh_time(time_unix_seconds, newest_by_witness.values(), trust.witness_threshold)
    return VerifiedCheckpoint(
        checkpoint=checkpoint,
        time_ms=time_unix_seconds * 1000,
        note_bytes=note_bytes,
        cosigner_names=tuple(newest_first),
        fresh_time_ms=None if fresh_unix_seconds is None else fresh_unix_seconds * 1000,
    )


def _fresh_time(cosigned_unix_seconds: int, witnessed: Iterable[int], threshold: int) -> int | None:
    if threshold == 0:
        return cosigned_unix_seconds
    newest_first = sorted(witnessed, reverse=True)
    return min(cosigned_unix_seconds, newest_first[threshold - 1]) if len(newest_first) >= threshold else None


def _verified_lines(note: Note, trusted_keys: Iterable[TrustedKey]) -> tuple[tuple[TrustedKey, NoteSignature], ...]:
    trusted = {key.verifier_key: key for key in trusted_keys}
    return tuple((trusted[key], signature) for key, signature in verified_signatures(note, *trusted))


def _newest_times(
    cosigner_lines: Iterable[tuple[TrustedKey, NoteSignature]], now_unix_seconds: int | None
) -> dict[str, int]:
    newest: dict[str, int] = {}
    for key, line in cosigner_lines:
        time_unix_seconds = parse_cosignature(line.signature).time_unix_seconds
        if _is_in_force(key, time_unix_seconds, now_unix_seconds):
            name = key.verifier_key.name
            newest[name] = max(time_unix_seconds, newest.get(name, 0))
    return newest


def _is_in_force(key: TrustedKey, signed_unix_seconds: int, now_unix_seconds: int | None) -> bool:
    return key.is_in_force(signed_unix_seconds) and (now_unix_seconds is None or key.is_in_force(now_unix_seconds))
