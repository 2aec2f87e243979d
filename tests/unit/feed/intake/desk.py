"""An intake with everything real but the disk, and requests that are in order unless a test says otherwise."""

from dataclasses import replace
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from consent.authority import Authority
from consent.event import Event, RejectedEvent, parse_event
from consent.eventlog.attestation import Attestation
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.trust import Trust, TrustedKey
from consent.policy import Policy, format_policy, policy_from_mapping
from consent.vocabulary.directive import Assurance, GrantedBy, Kind, Proof
from consent.vocabulary.subject import Tokeniser
from feed.intake.recorder import Recorder
from feed.intake.requests import RecordDirective, RecordLink, RecordUnlink, Subject
from feed.intake.sources import Source
from feed.publish import Publisher
from feed.tracing import Tracing
from tests.fakes.clock import FakeClock
from tests.fakes.memory_log import MemoryLog
from tests.fakes.signers import EVIDENCE, Signers, source_key

ORIGIN = "consent.example/log"
NOW_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
TOKENISER = Tokeniser((bytes(range(32)),))
SIGNERS = Signers(ORIGIN)
TRUST = Trust(
    tenant="tenant-1",
    origin=ORIGIN,
    log_keys=(TrustedKey(generate_signing_key(ORIGIN, KeyKind.LOG, bytes([1] * 32)).verifier_key),),
    cosigner_keys=(TrustedKey(generate_signing_key("cosigner", KeyKind.COSIGNER, bytes([2] * 32)).verifier_key),),
    source_keys=SIGNERS.source_keys,
    approver_keys=SIGNERS.approver_keys,
)
METHODS = frozenset(
    {"RecordDirective", "RecordDirectives", "RecordLink", "RecordUnlink", "RecordFact", "RecordRestriction"}
)
WEB = Source("web", {"*"}, {"*"}, max_proof=3, max_assurance=2, methods=METHODS, signing_key=source_key("web"))
CALL_CENTRE = Source(
    "call-centre",
    {"email"},
    {"marketing", "newsletter"},
    max_proof=1,
    max_assurance=1,
    methods=METHODS,
    signing_key=source_key("call-centre"),
)
IMPORT = Source(
    "import",
    {"*"},
    {"*"},
    max_proof=3,
    max_assurance=1,
    methods=METHODS,
    is_import=True,
    signing_key=source_key("import"),
)
PURPOSES: dict[str, Any] = {
    "marketing": {},
    "newsletter": {"parents": ["marketing"]},
    "analytics": {"legal_basis": "li", "gpc": True},
    "old": {"retired": True},
}
ANNA = Subject("email", "anna@example.com")
BEN = Subject("email", "ben@example.com")


def make_policy(version: int = 1, **changes: Any) -> Policy:
    """A policy of `PURPOSES`; `analytics` may run until somebody objects in the US."""
    regimes = [{"purpose": "analytics", "jurisdiction": "US", "regime": "opt_out"}]
    return policy_from_mapping({"version": version, "purposes": PURPOSES, "regimes": regimes} | changes)


def approve(policy: Policy, origin: str = ORIGIN) -> tuple[Attestation, ...]:
    """The approvals that a policy needs."""
    return Signers(origin).approve_policy(format_policy(policy), policy.version, policy.replaces_version)


def token_of(subject: Subject) -> bytes:
    return subject.token or TOKENISER.token(subject.namespace, subject.value)


def opt_out(key: str = "k", subject: Subject = ANNA, **changes: Any) -> RecordDirective:
    request = RecordDirective(
        idempotency_key=key,
        subject=subject,
        purpose="marketing",
        kind=Kind.OPT_OUT,
        proof=Proof.NONE,
        assurance=Assurance.CONTACT_POINT,
    )
    return replace(request, **changes)


def grant(key: str = "k", subject: Subject = ANNA, **changes: Any) -> RecordDirective:
    request = opt_out(
        key,
        subject,
        kind=Kind.GRANT,
        proof=Proof.DOUBLE_OPT_IN,
        notice_version=1,
        granted_by=GrantedBy.SELF,
        evidence_digest=EVIDENCE,
    )
    return replace(request, **changes)


def link(key: str = "k", left: Subject = ANNA, right: Subject = BEN, proof: int = Proof.NONE) -> RecordLink:
    return RecordLink(idempotency_key=key, left=left, right=right, proof=proof, evidence_digest=EVIDENCE)


def unlink(key: str = "k", left: Subject = ANNA, right: Subject = BEN) -> RecordUnlink:
    return RecordUnlink(idempotency_key=key, left=left, right=right)


class Desk:
    """The intake, its log and its clock; and where it is traced, the spans that it makes."""

    def __init__(self, *, is_traced: bool = False) -> None:
        self.spans: list[ReadableSpan] = []
        self.clock = FakeClock(NOW_MS)
        self.log = MemoryLog(self.clock, Authority(TRUST))
        tracing = Tracing(self.spans.append, clock=self.clock) if is_traced else None
        self.publisher = Publisher(self.log, self.clock, ORIGIN, tracing)
        self.recorder = Recorder(self.log, self.publisher, TOKENISER)

    async def open(self, policy: Policy | None = None) -> "Desk":
        """Publishes a policy."""
        policy = policy or make_policy()
        await self.publisher.publish_policy(format_policy(policy), "administrator", approvals=approve(policy))
        return self

    def events(self) -> list[Event]:
        return [parse_event(entry.event_bytes) for entry in self.log.entries]

    def last_event(self) -> Event:
        return self.events()[-1]

    def rejections(self) -> list[str]:
        return [event.rejection for event in self.events() if isinstance(event, RejectedEvent)]
