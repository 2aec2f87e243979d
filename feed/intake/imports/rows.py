"""What a row of a file comes to: a directive to be recorded, or the reason why it is set aside."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from consent.vocabulary.directive import Assurance, GrantedBy, Kind, Proof
from feed.intake.requests import RecordDirective, Subject


class VerdictKind(StrEnum):
    """What becomes of a row."""

    RECORD = "record"
    SKIP = "skip"
    REJECT = "reject"


class RowReason(StrEnum):
    """Why; docs/imports.md explains each. The feed's own refusals come with their own names."""

    BLANK_LINE = "BLANK_LINE"
    NO_ACTION = "NO_ACTION"
    COLUMN_COUNT = "COLUMN_COUNT"
    IDENTIFIER_MISSING = "IDENTIFIER_MISSING"
    INVALID_IDENTIFIER = "INVALID_IDENTIFIER"
    PURPOSE_MISSING = "PURPOSE_MISSING"
    PURPOSE_UNKNOWN = "PURPOSE_UNKNOWN"
    ACTION_UNKNOWN = "ACTION_UNKNOWN"
    TIME_AMBIGUOUS = "TIME_AMBIGUOUS"
    TIME_UNREADABLE = "TIME_UNREADABLE"
    TIME_TOO_EARLY = "TIME_TOO_EARLY"
    TIME_WITHOUT_ZONE = "TIME_WITHOUT_ZONE"


class Verdict(NamedTuple):
    """What became of a row; never what stands in it.

    Attributes:
        line: Number of the row's first line, from 1.
        kind: What becomes of it.
        reason: A `RowReason`, or the reason of the feed's refusal; empty for a row without anything to say about it.
        column: The column concerned, by the name that this program knows it under; empty for the row as a whole.
    """

    line: int
    kind: VerdictKind
    reason: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class DirectiveRow:
    """A row that says something.

    Attributes:
        line: Number of its first line, from 1.
        namespace: Of the identifier.
        value: The identifier as it stands there; it can be normalised.
        purpose: A purpose of the policy, or `*`.
        kind: What was said.
        occurred_at_ms: Unix ms, 0 where the row has no time.
        without_zone: The time had no zone and was taken as UTC.
    """

    line: int
    namespace: str
    value: str
    purpose: str
    kind: Kind
    occurred_at_ms: int
    without_zone: bool


Row: TypeAlias = DirectiveRow | Verdict

# For a denial the higher assurance is the safer one: a grant of a lower one does not lift it. So only what is known not to be an account
# has less. Of a grant the lower one is the safer.
_ASSURANCES_OF_DENIALS = {
    "device": Assurance.DEVICE,
    "email": Assurance.CONTACT_POINT,
    "phone": Assurance.CONTACT_POINT,
}
_ASSURANCES_OF_GRANTS = {"device": Assurance.DEVICE}


def make_request(row: DirectiveRow, idempotency_key: str) -> RecordDirective:
    """The request of a row: without proof, whatever the file says."""
    return RecordDirective(
        idempotency_key=idempotency_key,
        subject=Subject(row.namespace, row.value),
        purpose=row.purpose,
        kind=row.kind,
        proof=Proof.NONE,
        assurance=_assurance(row),
        occurred_at_ms=row.occurred_at_ms,
        without_zone=row.without_zone,
        granted_by=GrantedBy.SELF if row.kind == Kind.GRANT else 0,
    )


def _assurance(row: DirectiveRow) -> Assurance:
    if row.kind == Kind.GRANT:
        return _ASSURANCES_OF_GRANTS.get(row.namespace, Assurance.CONTACT_POINT)
    return assurance_of_denial(row.namespace)


def assurance_of_denial(namespace: str) -> Assurance:
    """What a denial of an identifier counts as, where nobody saw how it came."""
    return _ASSURANCES_OF_DENIALS.get(namespace, Assurance.ACCOUNT)
