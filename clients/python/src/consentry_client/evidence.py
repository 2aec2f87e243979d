"""What a source keeps as proof that a person said something, as the 32 bytes that the log keeps of it."""

import hashlib

_DIGEST_BYTES = 32


def evidence_digest(evidence: bytes) -> bytes:
    """SHA-256 of what you keep as proof: a confirm token, a session assertion, a signed form. The log keeps only this digest.

    Keep the evidence itself, and put something into it that nobody can guess: of a bare address the digest would tell whose it is.

    Raises:
        TypeError: It is no bytes.
        ValueError: It is empty, and so proves nothing.
    """
    if not isinstance(evidence, bytes | bytearray | memoryview):
        raise TypeError(f"evidence must be bytes, not {type(evidence).__name__}")
    if not evidence:
        raise ValueError("evidence must not be empty")
    return hashlib.sha256(evidence).digest()


def require_evidence(evidence: bytes | None, *, is_required: bool) -> bytes:
    """The digest as it travels: empty where there is none.

    Raises:
        TypeError: It is no bytes.
        ValueError: It has not 32 bytes, or is missing where it is needed.
    """
    if evidence is None:
        if is_required:
            raise ValueError(
                "evidence is needed from proof DOUBLE_OPT_IN on: evidence_digest() of what you keep as proof"
            )
        return b""
    if not isinstance(evidence, bytes):
        raise TypeError(f"evidence must be bytes, not {type(evidence).__name__}")
    if len(evidence) != _DIGEST_BYTES:
        raise ValueError(f"evidence must be a digest of {_DIGEST_BYTES} bytes: use evidence_digest()")
    return evidence
