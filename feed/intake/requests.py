"""Requests as sources make them, before anything about them was checked.

Enumerated fields are plain integers in the codes of `consent.vocabulary.directive`, `UNSTATED` where a source left them out: it is
intake that refuses what it does not know, so that the refusal is in the log. Nothing here shows in logs or tracebacks (`repr`).
"""

from dataclasses import dataclass

from consent.vocabulary.directive import ANY, AgeBand

UNSTATED = -1
"""A proof or an assurance that the source did not state."""


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """One way to name a person: namespace and value, or a ready token.

    Attributes:
        namespace: Such as `email`.
        value: As the source has it.
        token: 16 bytes, or empty.
        key_epoch: Of the token.
    """

    namespace: str = ""
    value: str = ""
    token: bytes = b""
    key_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordDirective:
    """Somebody said something about a purpose.

    Attributes:
        idempotency_key: The source's own name for the request.
        subject: About whom.
        purpose: A purpose of the policy, or `*`.
        kind: A `Kind`, 0 where not stated.
        proof: A `Proof`.
        assurance: An `Assurance`.
        occurred_at_ms: Unix ms, 0 for now.
        without_zone: The source's time had no zone and was taken as UTC.
        expires_at_ms: Of a grant, or None.
        subtree: Of a grant.
        notice_version: Of a grant.
        recipient: Of a grant; empty or `*` for the controller and everybody else.
        explicit: Of a grant.
        granted_by: Of a grant, a `GrantedBy`; 0 where not stated.
        evidence_digest: 32 bytes over what the source keeps as proof, or empty.
        has_unknown_fields: The message held fields that this version does not know.
    """

    idempotency_key: str
    subject: Subject
    purpose: str
    kind: int
    proof: int = UNSTATED
    assurance: int = UNSTATED
    occurred_at_ms: int = 0
    without_zone: bool = False
    expires_at_ms: int | None = None
    subtree: bool = False
    notice_version: int = 0
    recipient: str = ANY
    explicit: bool = False
    granted_by: int = 0
    evidence_digest: bytes = b""
    has_unknown_fields: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordLink:
    """Two identifiers are one person; the other fields are those of `RecordDirective`."""

    idempotency_key: str
    left: Subject
    right: Subject
    proof: int = UNSTATED
    occurred_at_ms: int = 0
    evidence_digest: bytes = b""
    has_unknown_fields: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordUnlink:
    """Two identifiers are not one person, or no longer."""

    idempotency_key: str
    left: Subject
    right: Subject
    occurred_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordFact:
    """Age band and jurisdictions of a person; `age_band` is an `AgeBand` code."""

    idempotency_key: str
    subject: Subject
    age_band: int = AgeBand.UNSPECIFIED
    jurisdictions: tuple[str, ...] = ()
    proof: int = UNSTATED
    occurred_at_ms: int = 0
    evidence_digest: bytes = b""
    has_unknown_fields: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordRestriction:
    """Processing of a person's data is restricted (GDPR Art. 18), or no longer."""

    idempotency_key: str
    subject: Subject
    restricted: bool
    proof: int = UNSTATED
    occurred_at_ms: int = 0
    evidence_digest: bytes = b""
    has_unknown_fields: bool = False
