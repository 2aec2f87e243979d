"""Directives: what people said about purposes, and the facts known about them."""

from dataclasses import dataclass
from enum import IntEnum

ANY = "*"
"""Every purpose (of a directive) or the controller and everybody else (of a recipient)."""


class Kind(IntEnum):
    """What was said. Everything but a grant, unknown codes of newer peers included, is a denial."""

    GRANT = 1
    OPT_OUT = 2
    WITHDRAW = 3
    REFUSE = 4
    OBJECT = 5
    REVOKE_BY_CONTROLLER = 6


class Proof(IntEnum):
    """How well the request was tied to the person."""

    NONE = 0
    LINK = 1
    DOUBLE_OPT_IN = 2
    AUTHENTICATED = 3


class Assurance(IntEnum):
    """What kind of identifier the request came in by."""

    DEVICE = 0
    CONTACT_POINT = 1
    ACCOUNT = 2


class GrantedBy(IntEnum):
    """Who gave a grant."""

    SELF = 1
    GUARDIAN = 2


class AgeBand(IntEnum):
    """Age bands, ordered so that the smallest stated one is the youngest; `UNSPECIFIED` states nothing."""

    UNSPECIFIED = 0
    CHILD = 1
    TEEN = 2
    ADULT = 3


SUBJECT_PROOF = Proof.DOUBLE_OPT_IN
"""The least proof that shows the subject's own will: below it, links share denials only and facts can only tighten."""


def known_proof(code: int) -> int:
    """A proof as stated; a code that this version does not know proves nothing."""
    return code if Proof.NONE <= code <= Proof.AUTHENTICATED else Proof.NONE


def known_age_band(code: int) -> int:
    """An age band as stated; a code that this version does not know counts as the youngest."""
    return code if AgeBand.UNSPECIFIED <= code <= AgeBand.ADULT else AgeBand.CHILD


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive as state keeps it.

    The enumerated fields are plain integers: a newer peer may send a code this version does not know, which must be kept and must never
    help anybody (`is_sound`).

    Attributes:
        seq: Sequence number of the event in the log, from 1.
        purpose: Name of a purpose, or `*`.
        kind: A `Kind`; unknown codes are denials.
        occurred_at_ms: Unix ms at which the person said it, by the source's clock.
        proof: A `Proof`.
        assurance: An `Assurance`.
        expires_at_ms: Unix ms at which a grant ends, or None. Denials never expire.
        subtree: The grant covers all descendants of its purpose.
        notice_version: Version of the notice that the person saw.
        recipient: Who may receive the data, or `*`. Denials are not limited by it.
        explicit: Explicit consent in the sense of GDPR Art. 9.
        granted_by: A `GrantedBy`.
        floor_seq: Of a denial copied by an UNLINK: only a grant after this seq can lift it; else 0.
    """

    seq: int
    purpose: str
    kind: int
    occurred_at_ms: int
    proof: int
    assurance: int
    expires_at_ms: int | None = None
    subtree: bool = False
    notice_version: int = 0
    recipient: str = ANY
    explicit: bool = False
    granted_by: int = GrantedBy.SELF
    floor_seq: int = 0

    @property
    def is_grant(self) -> bool:
        """Whether this is a grant."""
        return self.kind == Kind.GRANT

    @property
    def is_sound(self) -> bool:
        """Whether every enumerated field of a grant is known; one that is not makes it unusable."""
        return (
            0 <= self.proof <= Proof.AUTHENTICATED
            and 0 <= self.assurance <= Assurance.ACCOUNT
            and self.granted_by in (1, 2)
        )

    @property
    def lift_after_seq(self) -> int:
        """A grant must come later than this to lift the denial."""
        return max(self.seq, self.floor_seq)

    def dominates(self, earlier: "Directive") -> bool:
        """Whether `earlier`, on the same token, can be dropped: at any time, under any policy, it adds nothing to this one.

        A grant must be at least as good in every field that usability, scope and lifting look at. A denial must be at least as hard to
        lift. An objection dominates nothing: an override lifts one objection by its seq, and an earlier one behind it must still stand.
        """
        if self.purpose != earlier.purpose or self.seq <= earlier.seq or self.occurred_at_ms < earlier.occurred_at_ms:
            return False
        if self.is_grant != earlier.is_grant or self.assurance < earlier.assurance:
            return False
        if not self.is_grant:
            return self.kind != Kind.OBJECT and self.lift_after_seq >= earlier.lift_after_seq
        return self.is_sound and self._reaches_as_far_as(earlier) and self._is_proven_as_well_as(earlier)

    def _reaches_as_far_as(self, earlier: "Directive") -> bool:
        lasts = self.expires_at_ms is None or (
            earlier.expires_at_ms is not None and self.expires_at_ms >= earlier.expires_at_ms
        )
        return lasts and self.recipient in (ANY, earlier.recipient) and self.subtree >= earlier.subtree

    def _is_proven_as_well_as(self, earlier: "Directive") -> bool:
        return (
            self.proof >= earlier.proof
            and self.notice_version >= earlier.notice_version
            and self.explicit >= earlier.explicit
            and (self.granted_by == GrantedBy.GUARDIAN or self.granted_by == earlier.granted_by)
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a person besides their directives.

    Attributes:
        age_band: An `AgeBand` code.
        jurisdictions: Codes of the regime table, sorted.
    """

    age_band: int = AgeBand.UNSPECIFIED
    jurisdictions: tuple[str, ...] = ()

    def combine(self, other: "Facts") -> "Facts":
        """The strictest of both: the youngest stated band, the union of jurisdictions."""
        return Facts(
            youngest(self.age_band, other.age_band), tuple(sorted({*self.jurisdictions, *other.jurisdictions}))
        )


NO_FACTS = Facts()


def youngest(left: int, right: int) -> int:
    """The younger of two bands of which either may be unspecified."""
    if left == AgeBand.UNSPECIFIED or right == AgeBand.UNSPECIFIED:
        return max(left, right)
    return min(left, right)
