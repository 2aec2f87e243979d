"""Signatures over single events by others than the log: a source vouches for what relaxes, people approve what governs.

They travel beside the event and are not part of the leaf: which of them an event needs, `consent.authority` says. A source signs once for
many events: what it signs is the root of a small RFC 6962 tree over them, and each event carries its path in that tree. Every text that
is signed begins with its purpose and names the log, so that no signature serves for anything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from consent import encoding as wire
from consent.eventlog.errors import EventLogError, InvalidSignature, MalformedAttestation, WrongKeyKind
from consent.eventlog.keys import SIGNATURE_BYTES, KeyKind, SigningKey, VerifierKey, sign_text, verify_text_signature
from consent.eventlog.merkle import HASH_BYTES, Frontier, hash_leaf
from consent.eventlog.note_text import encode_base64, is_line
from consent.eventlog.proof import inclusion_proof, root_from_inclusion
from consent.eventlog.signed_note import KEY_ID_BYTES, NoteSignature

MAX_BATCH_EVENTS = 10_000
MAX_ATTESTATIONS = 16
"""Of one entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One signature over an event.

    Attributes:
        key_name: Name of the key.
        key_id: Its id, 4 bytes.
        signed_at_unix_seconds: When it was made, by the signer's clock; signed too.
        signature: 64 bytes of Ed25519.
        evidence_digest: 32 bytes over what the source keeps as proof (a confirm token, a session assertion); empty where there is none.
        batch_index: The event's place among those that the signature covers.
        batch_size: How many these are.
        audit_path: From the event to the root that is signed, 32 bytes each.

    Raises:
        MalformedAttestation: A part has the wrong size.
    """

    key_name: str
    key_id: bytes
    signed_at_unix_seconds: int
    signature: bytes
    evidence_digest: bytes = b""
    batch_index: int = 0
    batch_size: int = 1
    audit_path: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.key_id) != KEY_ID_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise MalformedAttestation("attestation: key id or signature has the wrong length")
        if len(self.evidence_digest) not in (0, HASH_BYTES):
            raise MalformedAttestation(f"attestation.evidence_digest: must be empty or {HASH_BYTES} bytes")
        if not 0 <= self.batch_index < self.batch_size <= MAX_BATCH_EVENTS:
            raise MalformedAttestation("attestation: its place lies outside its batch")
        if self.signed_at_unix_seconds < 0:
            raise MalformedAttestation("attestation.signed_at: negative")


_ATTESTATIONS = wire.sequence(
    wire.record(
        Attestation,
        (
            ("key_name", wire.STRING),
            ("key_id", wire.raw(KEY_ID_BYTES)),
            ("signed_at_unix_seconds", wire.U64),
            ("signature", wire.raw(SIGNATURE_BYTES)),
            ("evidence_digest", wire.BLOB),
            ("batch_index", wire.U64),
            ("batch_size", wire.U64),
            ("audit_path", wire.sequence(wire.HASH)),
        ),
    )
)


def format_attestations(attestations: Sequence[Attestation]) -> bytes:
    """The canonical bytes of an entry's attestations; empty for none."""
    return _ATTESTATIONS.write(tuple(attestations)) if attestations else b""


def parse_attestations(data: bytes) -> tuple[Attestation, ...]:
    """Read them back.

    Raises:
        MalformedAttestation: Anything that `format_attestations` would not have written, or too many.
    """
    if not data:
        return ()
    try:
        attestations: tuple[Attestation, ...] = wire.read_whole(_ATTESTATIONS, data)
    except wire.Truncated as error:
        raise MalformedAttestation(f"attestations: {error}") from None
    if not 1 <= len(attestations) <= MAX_ATTESTATIONS:
        raise MalformedAttestation(f"attestations: at most {MAX_ATTESTATIONS}, and none is written as nothing")
    return attestations


def attest(
    events: Sequence[tuple[bytes, bytes]], origin: str, key: SigningKey, time_unix_seconds: int
) -> list[Attestation]:
    """Sign for events as their source.

    Args:
        events: Canonical event bytes and evidence digest of each, 1 to `MAX_BATCH_EVENTS`.
        origin: Name of the log.
        key: The source's.
        time_unix_seconds: Now.

    Returns:
        One attestation for each event, all with the same signature.

    Raises:
        WrongKeyKind: Not a source's key.
        MalformedAttestation: No event, too many, or a digest of the wrong length.
    """
    _check_kind(key.kind, KeyKind.SOURCE)
    if not 1 <= len(events) <= MAX_BATCH_EVENTS:
        raise MalformedAttestation(f"events: must be 1 to {MAX_BATCH_EVENTS}")
    frontier, nodes = Frontier(), dict[tuple[int, int], bytes]()
    for event_bytes, evidence_digest in events:
        completed = frontier.append(_leaf(event_bytes, evidence_digest))
        nodes |= {(level, index): node_hash for level, index, node_hash in completed}
    text = _attested_text(origin, time_unix_seconds, len(events), frontier.root_hash())
    signature = sign_text(text, key).signature
    return [
        Attestation(
            key_name=key.name,
            key_id=key.key_id,
            signed_at_unix_seconds=time_unix_seconds,
            signature=signature,
            evidence_digest=evidence_digest,
            batch_index=index,
            batch_size=len(events),
            audit_path=inclusion_proof(index, len(events), lambda level, at: nodes[level, at]),
        )
        for index, (_, evidence_digest) in enumerate(events)
    ]


class AttestationVerifier:
    """Checks attestations of one log; a signature that covers many events costs once.

    Args:
        origin: Name of the log.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._verified: dict[tuple[VerifierKey, bytes], str] = {}

    def verify(self, attestation: Attestation, event_bytes: bytes, key: VerifierKey) -> None:
        """Check a source's attestation of an event.

        Raises:
            WrongKeyKind: Not a source's key.
            InvalidSignature: It is not this key's, or not for this event.
        """
        _check_kind(key.kind, KeyKind.SOURCE)
        leaf = _leaf(event_bytes, attestation.evidence_digest)
        root_hash = _climb(leaf, attestation)
        text = _attested_text(self._origin, attestation.signed_at_unix_seconds, attestation.batch_size, root_hash)
        memo = (key, attestation.signature)
        if self._verified.get(memo) == text:
            return
        _verify_text(text, attestation, key)
        if len(self._verified) >= MAX_BATCH_EVENTS:
            self._verified.clear()
        self._verified[memo] = text


def approve(origin: str, content: Sequence[str], key: SigningKey, time_unix_seconds: int) -> Attestation:
    """Sign for content as one of its approvers.

    Args:
        origin: Name of the log.
        content: Lines that say what is approved (`consent.authority.approved_content`).
        key: The approver's.
        time_unix_seconds: Now.

    Raises:
        WrongKeyKind: Not an approver's key.
    """
    _check_kind(key.kind, KeyKind.APPROVER)
    signature = sign_text(_approved_text(origin, time_unix_seconds, content), key).signature
    return Attestation(
        key_name=key.name, key_id=key.key_id, signed_at_unix_seconds=time_unix_seconds, signature=signature
    )


def verify_approval(attestation: Attestation, origin: str, content: Sequence[str], key: VerifierKey) -> None:
    """Check an approver's signature.

    Raises:
        WrongKeyKind: Not an approver's key.
        InvalidSignature: It is not this key's, or not for this content.
    """
    _check_kind(key.kind, KeyKind.APPROVER)
    _verify_text(_approved_text(origin, attestation.signed_at_unix_seconds, content), attestation, key)


def hash_line(data: bytes) -> str:
    """SHA-256 in base64: how a text that is signed names bytes."""
    return encode_base64(sha256(data).digest())


def _check_kind(kind: KeyKind, expected: KeyKind) -> None:
    if kind is not expected:
        raise WrongKeyKind(f"key: must be of kind {expected.name}")


def _leaf(event_bytes: bytes, evidence_digest: bytes) -> bytes:
    # The length first: without it, the end of an event could be read as evidence.
    return hash_leaf(bytes((len(evidence_digest),)) + evidence_digest + event_bytes)


def _climb(leaf: bytes, attestation: Attestation) -> bytes:
    """The root that the path leads to; a lone event is its own root."""
    return root_from_inclusion(leaf, attestation.batch_index, attestation.batch_size, attestation.audit_path)


def _attested_text(origin: str, time_unix_seconds: int, size: int, root_hash: bytes) -> str:
    lines = ("consentry/attestation/v1", origin, f"time {time_unix_seconds}", str(size), encode_base64(root_hash))
    return "".join(f"{line}\n" for line in lines)


def _approved_text(origin: str, time_unix_seconds: int, content: Sequence[str]) -> str:
    lines = ("consentry/approval/v1", origin, f"time {time_unix_seconds}", *content)
    if not all(is_line(line) for line in lines):
        raise MalformedAttestation("approval: each part must be one line and not empty")
    return "".join(f"{line}\n" for line in lines)


def _verify_text(text: str, attestation: Attestation, key: VerifierKey) -> None:
    try:
        line = NoteSignature(attestation.key_name, attestation.key_id, attestation.signature)
        verify_text_signature(text, line, key)
    except EventLogError:
        raise InvalidSignature("attestation: does not verify under the key that it names") from None
