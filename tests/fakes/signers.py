"""Sources and approvers of a log, with keys that their names decide: what a test logs is signed as real parties would."""

import hashlib
from collections.abc import Iterable, Sequence

from consent.authority import approved_content, needs_attestation
from consent.event import Event, OverrideEvent, PolicyEvent, format_event
from consent.eventlog.attestation import Attestation, approve, attest
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from consent.eventlog.trust import SourceRights, TrustedKey
from feed.ports import IdempotencyKey, Submission

SIGNED_AT = 1_767_225_600
EVIDENCE = hashlib.sha256(b"a confirm token").digest()
APPROVERS = ("ada", "grace")
ALL_SOURCES = ("", "web", "shop", "accounts", "administrator", "import", "feed", "call-centre")


class Signers:
    """Everybody who may sign for events of one log.

    Args:
        origin: Name of the log.
        sources: Names that their events carry; each may say everything.
    """

    def __init__(self, origin: str, sources: Iterable[str] = ALL_SOURCES) -> None:
        self._origin = origin
        self.sources = {name: source_key(name) for name in sources}
        self.approvers = [_key(f"approver.example/{name}", KeyKind.APPROVER) for name in APPROVERS]

    @property
    def source_keys(self) -> tuple[TrustedKey, ...]:
        """For a trust file."""
        return tuple(
            TrustedKey(key.verifier_key, rights=SourceRights(name, max_proof=3, max_assurance=2))
            for name, key in self.sources.items()
        )

    @property
    def approver_keys(self) -> tuple[TrustedKey, ...]:
        """For a trust file."""
        return tuple(TrustedKey(key.verifier_key) for key in self.approvers)

    def sign(self, event: Event, signed_at: int = SIGNED_AT) -> tuple[Attestation, ...]:
        """The signatures that the event needs."""
        if isinstance(event, PolicyEvent | OverrideEvent):
            return tuple(approve(self._origin, approved_content(event), key, signed_at) for key in self.approvers)
        if not needs_attestation(event):
            return ()
        return tuple(attest([(format_event(event), EVIDENCE)], self._origin, self.sources[event.source], signed_at))

    def sign_all(self, events: Sequence[Event]) -> tuple[tuple[Attestation, ...], ...]:
        """Those of each event."""
        return tuple(self.sign(event) for event in events)

    def submit(
        self, events: Sequence[Event], idempotency: IdempotencyKey | None = None, traceparent: str = ""
    ) -> Submission:
        """A submission with everything signed."""
        return Submission(tuple(events), idempotency, traceparent, self.sign_all(events))

    def approve_policy(self, document: bytes, version: int = 1, replaces_version: int = 0) -> tuple[Attestation, ...]:
        """Approvals of a policy document."""
        return self.sign(
            PolicyEvent(origin=self._origin, version=version, replaces_version=replaces_version, document=document)
        )


def source_key(name: str) -> SigningKey:
    """The key of a source, the same for every log."""
    return _key(f"source.example/{name or 'unnamed'}", KeyKind.SOURCE)


def _key(name: str, kind: KeyKind) -> SigningKey:
    return generate_signing_key(name, kind, hashlib.sha256(name.encode()).digest())
