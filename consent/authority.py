"""Who may say what: the signatures that an event needs beside the log's own.

Whatever can relax needs its source's, with evidence from proof 2 on; what governs everybody (a policy, an override) needs those of two
people. Restricting needs none. So a stolen log key or a careless source cannot invent a consent, and no single person can change the rules.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from consent.errors import ConsentError
from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, OverrideEvent, PolicyEvent, RestrictionEvent
from consent.eventlog.attestation import Attestation, AttestationVerifier, hash_line, verify_approval
from consent.eventlog.errors import EventLogError
from consent.eventlog.trust import EVERYTHING, SourceRights, Trust, TrustedKey
from consent.vocabulary.directive import SUBJECT_PROOF, Kind

_NO_PROOF: Final = 0


class NotAuthorised(ConsentError):
    """An event lacks a signature that it needs, or its signer may not say this. The text names what, never whose."""

    reason = "NOT_AUTHORISED"


class AttestationMissing(NotAuthorised):
    """What relaxes carries no signature of a trusted source, or only one by a key that is not in force."""

    reason = "ATTESTATION_MISSING"


class AttestationInvalid(NotAuthorised):
    """A signature by a trusted key does not verify."""

    reason = "ATTESTATION_INVALID"


class EvidenceMissing(NotAuthorised):
    """A proof of 2 or more is asserted without evidence."""

    reason = "EVIDENCE_MISSING"


class BeyondRights(NotAuthorised):
    """The source's key may not speak of this purpose, or not with this proof or assurance, or not by this name."""

    reason = "BEYOND_RIGHTS"


class ApprovalsMissing(NotAuthorised):
    """Fewer approvers have signed than the trust file demands."""

    reason = "APPROVALS_MISSING"


def needs_attestation(event: Event) -> bool:
    """Whether the event can relax anything."""
    match event:
        case DirectiveEvent():
            return event.kind == Kind.GRANT
        case LinkEvent() | FactEvent():
            return event.proof >= SUBJECT_PROOF
        case RestrictionEvent():
            return not event.restricted and event.proof >= SUBJECT_PROOF
        case _:
            return False


def needs_evidence(event: Event) -> bool:
    """Whether its attestation must carry the digest of evidence."""
    return needs_attestation(event) and _proof(event) >= SUBJECT_PROOF


def approved_content(event: PolicyEvent | OverrideEvent) -> tuple[str, ...]:
    """The lines that approvers sign for this event (`consent.eventlog.attestation.approve`)."""
    if isinstance(event, PolicyEvent):
        return (
            "policy",
            f"version {event.version}",
            f"replaces {event.replaces_version}",
            f"document {hash_line(event.document)}",
        )
    return (
        "override",
        # The token is a pseudonym of the person: what is signed, and shown to approvers, need not hold it.
        f"subject {hash_line(event.token)}",
        f"objection {event.objection_seq}",
        f"purpose {event.purpose}",
        f"ground {hash_line(event.ground.encode())}",
    )


class Authority:
    """Judges the events of one log by a trust file. Holds what was verified already, so that a batch's signature is checked once.

    Args:
        trust: Whom to believe.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._verifier = AttestationVerifier(trust.origin)

    def verify(self, event: Event, event_bytes: bytes, attestations: Sequence[Attestation], seq: int) -> None:
        """Refuse an event that its signers may not say.

        Args:
            event: The event.
            event_bytes: Its canonical bytes.
            attestations: That came with it; those by unknown keys are ignored.
            seq: Its place in the log: a key counts up to its last.

        Raises:
            NotAuthorised: As the subclass says.
        """
        if isinstance(event, PolicyEvent | OverrideEvent):
            self._verify_approvals(event, attestations, seq)
        elif needs_attestation(event):
            self._verify_source(event, event_bytes, attestations, seq)

    def _verify_approvals(
        self, event: PolicyEvent | OverrideEvent, attestations: Sequence[Attestation], seq: int
    ) -> None:
        content, approvers = approved_content(event), set[str]()
        for attestation, key in _matching(attestations, self._trust.approver_keys, seq):
            try:
                verify_approval(attestation, self._trust.origin, content, key.verifier_key)
            except EventLogError:
                raise AttestationInvalid("approval: does not verify") from None
            approvers.add(key.verifier_key.name)
        if len(approvers) < self._trust.approver_threshold:
            raise ApprovalsMissing(
                f"approvals: {len(approvers)} of the {self._trust.approver_threshold} approvers that are needed"
            )

    def _verify_source(self, event: Event, event_bytes: bytes, attestations: Sequence[Attestation], seq: int) -> None:
        shortfall: NotAuthorised = AttestationMissing("attestation: none by a source that is trusted and in force")
        for attestation, key in _matching(attestations, self._trust.source_keys, seq):
            try:
                self._verifier.verify(attestation, event_bytes, key.verifier_key)
            except EventLogError:
                raise AttestationInvalid("attestation: does not verify") from None
            try:
                _verify_rights(event, key)
            except BeyondRights as error:
                shortfall = error
                continue
            if needs_evidence(event) and not attestation.evidence_digest:
                shortfall = EvidenceMissing("attestation.evidence_digest: needed from proof 2 on")
                continue
            return
        raise shortfall


def _matching(
    attestations: Sequence[Attestation], keys: Sequence[TrustedKey], seq: int
) -> Iterator[tuple[Attestation, TrustedKey]]:
    """Each attestation by one of the keys, where the key is in force for it."""
    known = {(key.verifier_key.name, key.verifier_key.key_id): key for key in keys}
    for attestation in attestations:
        key = known.get((attestation.key_name, attestation.key_id))
        if key and key.is_in_force(attestation.signed_at_unix_seconds) and key.covers(seq):
            yield attestation, key


def _verify_rights(event: Event, key: TrustedKey) -> None:
    rights = key.rights or SourceRights("")
    if event.source != rights.source:
        raise BeyondRights("source: the key speaks for another source")
    if _proof(event) > rights.max_proof:
        raise BeyondRights("proof: above what the source may assert")
    if isinstance(event, DirectiveEvent):
        if event.assurance > rights.max_assurance:
            raise BeyondRights("assurance: above what the source may assert")
        # What lies below a purpose depends on the policy, and a key's rights must not.
        is_named = event.purpose in rights.purposes and not event.subtree
        if not is_named and EVERYTHING not in rights.purposes:
            raise BeyondRights("purpose: the source may not speak of it")
    elif EVERYTHING not in rights.purposes:
        raise BeyondRights("purpose: only a source that may speak of every purpose may say this")


def _proof(event: Event) -> int:
    proof: int = getattr(event, "proof", _NO_PROOF)
    return proof
