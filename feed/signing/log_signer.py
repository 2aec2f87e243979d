"""Signs the log's checkpoints."""

from collections.abc import Sequence

from consent.eventlog.checkpoint import Checkpoint, format_checkpoint_text, sign_checkpoint
from consent.eventlog.keys import KeyKind, SigningKey, VerifierKey, cosign, sign_text
from consent.eventlog.signed_note import Note, format_note, parse_note


class LogSigner:
    """Holds the log's key and its cosigner's: one says what the tree is, the other when it was the newest.

    Args:
        log_key: The log's.
        cosigner_key: The cosigner's.
        next_keys: Those that they rotate to, which sign too.
    """

    def __init__(self, log_key: SigningKey, cosigner_key: SigningKey, next_keys: Sequence[SigningKey] = ()) -> None:
        self._log_key = log_key
        self._cosigner_key = cosigner_key
        self._next_keys = tuple(next_keys)

    @property
    def log_verifier_key(self) -> VerifierKey:
        """Public half of the log's key."""
        return self._log_key.verifier_key

    @property
    def cosigner_verifier_key(self) -> VerifierKey:
        """Public half of the cosigner's key."""
        return self._cosigner_key.verifier_key

    def sign(self, origin: str, size: int, root_hash: bytes, now_ms: int) -> bytes:
        """Make the signed checkpoint (C2SP tlog-checkpoint and tlog-cosignature).

        The caller must hand on no two of which one is not a prefix of the other.

        Args:
            origin: Name of the log.
            size: Number of entries.
            root_hash: Root over them, 32 bytes.
            now_ms: Unix ms; the cosignature carries whole seconds, rounded down.

        Returns:
            The note's bytes.
        """
        checkpoint = Checkpoint(origin, size, root_hash)
        now_unix_seconds = now_ms // 1000
        note_bytes = sign_checkpoint(checkpoint, self._log_key, self._cosigner_key, now_unix_seconds)
        if not self._next_keys:
            return note_bytes
        text, note = format_checkpoint_text(checkpoint), parse_note(note_bytes)
        more = [
            cosign(text, key, now_unix_seconds) if key.kind is KeyKind.COSIGNER else sign_text(text, key)
            for key in self._next_keys
        ]
        return format_note(Note(text, (*note.signatures, *more)))
