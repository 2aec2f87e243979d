"""What a directive must be: known, the source's to say, and of a purpose that there is."""

from consent.event import DirectiveEvent, DirectiveFlag
from consent.policy import Policy
from consent.state import Cluster
from consent.vocabulary.directive import ANY, Assurance, GrantedBy, Kind, Proof
from feed.errors import InvalidDirective, NoPolicy, PurposeUnknown
from feed.intake.errors import RecordExists
from feed.intake.occurrence import LATEST_MS, Occurrence, settle_occurrence
from feed.intake.requests import RecordDirective
from feed.intake.sources import (
    Source,
    verify_assurance_right,
    verify_proof_right,
    verify_purpose_right,
    verify_subject_right,
    verify_subtree_right,
)
from feed.intake.subjects import ResolvedSubject, require_token
from feed.publish import Arrival

MAX_RECIPIENT_CHARACTERS = 128

_KINDS = frozenset(Kind)
_PROOFS = frozenset(Proof)
_ASSURANCES = frozenset(Assurance)
_GIVERS = frozenset(GrantedBy)
_EVERYBODY = ("", ANY)


def make_directive(
    request: RecordDirective,
    resolved: ResolvedSubject,
    source: Source,
    policy: Policy | None,
    arrival: Arrival,
    key_epoch: int,
) -> DirectiveEvent:
    """The event of a directive.

    Args:
        request: As it came in.
        resolved: Its subject.
        source: Who says it.
        policy: The policy in force.
        arrival: Reference and time of receipt.
        key_epoch: Of the token.

    Raises:
        InvalidDirective, InvalidIdentifier, PurposeUnknown, NoPolicy, SourceNotPermitted: The text names the field.
    """
    # 1. Everything that is enumerated must be known: a code of a newer peer could mean anything.
    _verify_codes(request)
    # 2. Who it is about, and whether this source may speak of them and of the purpose.
    verify_subject_right(source, request.subject, "directive.identifier")
    token = require_token(resolved)
    verify_purpose_right(source, request.purpose, "directive.purpose")
    # 3. The purpose; what is retired can no longer be asked for, so nothing new is said about it.
    if policy is None:
        raise NoPolicy("no policy was published yet, so no purpose is known")
    if request.purpose != ANY and policy.find_purpose(request.purpose) is None:
        raise PurposeUnknown("directive.purpose is not in the policy, or retired")
    # 4. Time, then what only one of the two, grants and denials, can have.
    occurred = settle_occurrence(
        request.occurred_at_ms, arrival.received_at_ms, "directive.occurred_at_ms", InvalidDirective
    )
    if request.kind == Kind.GRANT:
        _verify_grant(request, source, occurred.at_ms)
        if request.subtree:
            verify_subtree_right(source, policy.descendants(request.purpose), "directive.subtree")
    else:
        _verify_denial(request)
    return DirectiveEvent(
        **arrival.stamp(key_epoch),
        token=token,
        kind=request.kind,
        occurred_at_ms=occurred.at_ms,
        purpose=request.purpose,
        # A denial counts whatever its proof; what is recorded of it is what the source can know.
        proof=min(request.proof, source.proof_limit),
        assurance=request.assurance,
        subtree=request.subtree,
        explicit=request.explicit,
        granted_by=request.granted_by or GrantedBy.SELF,
        notice_version=request.notice_version,
        flags=_flags(request, source, occurred),
        recipient=request.recipient or ANY,
        expires_at_ms=request.expires_at_ms,
    )


def verify_first_record(event: DirectiveEvent, cluster: Cluster | None) -> None:
    """Refuse an imported grant for a subject of whom something better is recorded.

    What an import alone said of other purposes does not count, so that one file may hold several grants of a person.

    Args:
        event: The grant.
        cluster: What is known of its subject, None for one never seen.

    Raises:
        RecordExists: Something is.
    """
    for directive in (directive for member in (cluster.members if cluster else ()) for directive in member.directives):
        if not directive.is_grant or directive.proof > Proof.NONE or directive.purpose == event.purpose:
            raise RecordExists("directive.kind: an import may grant only where nothing is recorded of the subject")


def _verify_codes(request: RecordDirective) -> None:
    if request.kind not in _KINDS:
        raise InvalidDirective("directive.kind is missing or not known")
    if request.proof not in _PROOFS:
        raise InvalidDirective("directive.proof is missing or not known")
    if request.assurance not in _ASSURANCES:
        raise InvalidDirective("directive.assurance is missing or not known")


def _verify_grant(request: RecordDirective, source: Source, occurred_at_ms: int) -> None:
    if request.has_unknown_fields:
        raise InvalidDirective("directive: a grant must not hold fields that are not known here")
    if request.granted_by not in _GIVERS:
        raise InvalidDirective("directive.granted_by is missing or not known")
    verify_proof_right(source, request.proof, "directive.proof")
    verify_assurance_right(source, request.assurance, "directive.assurance")
    if len(request.recipient) > MAX_RECIPIENT_CHARACTERS or not request.recipient.isprintable():
        raise InvalidDirective(f"directive.recipient has at most {MAX_RECIPIENT_CHARACTERS} printable characters")
    if request.expires_at_ms is not None and not occurred_at_ms < request.expires_at_ms <= LATEST_MS:
        raise InvalidDirective("directive.expires_at_ms is not after directive.occurred_at_ms, or after the year 9999")


def _verify_denial(request: RecordDirective) -> None:
    # Such a field would promise an end, a limit or a condition that no denial has.
    stated = {
        "expires_at_ms": request.expires_at_ms is not None,
        "subtree": request.subtree,
        "notice_version": request.notice_version != 0,
        "recipient": request.recipient not in _EVERYBODY,
        "explicit": request.explicit,
        "granted_by": request.granted_by not in (0, GrantedBy.SELF),
    }
    for field, is_stated in stated.items():
        if is_stated:
            raise InvalidDirective(f"directive.{field} is for grants only")


def _flags(request: RecordDirective, source: Source, occurred: Occurrence) -> DirectiveFlag:
    flags = DirectiveFlag.NONE
    if occurred.is_clamped:
        flags |= DirectiveFlag.TIME_CLAMPED
    if request.without_zone and request.occurred_at_ms:
        flags |= DirectiveFlag.TIME_WITHOUT_ZONE
    if source.is_import:
        flags |= DirectiveFlag.IMPORTED
    return flags
