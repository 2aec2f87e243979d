"""Signs the log's checkpoints."""

from consent.eventlog.checkpoint import Checkpoint, sign_checkpoint
from consent.eventlog.keys import SigningKey, VerifierKey


class LogSigner:
    """Holds the log's key and its cosigner's: one says what the tree is, the other when it was the newest."""

    def __init__(self, log_key: SigningKey, cosigner_key: SigningKey) -> None:
        self._log_key = log_key
        self._cosigner_key = cosigner_key

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
        return sign_checkpoint(checkpoint, self._log_key, self._cosigner_key, now_ms // 1000)
