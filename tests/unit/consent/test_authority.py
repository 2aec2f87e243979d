"""Who may say what: every kind of event, with and without the signatures that it needs."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.authority import (
    ApprovalsMissing,
    AttestationInvalid,
    AttestationMissing,
    Authority,
    BeyondRights,
    EvidenceMissing,
    NotAuthorised,
    approved_content,
    needs_attestation,
    needs_evidence,
)
from consent.event import (
    DirectiveEvent,
    Event,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    PolicyEvent,
    RestrictionEvent,
    UnlinkEvent,
    format_event,
)
from consent.eventlog.attestation import (
    Attestation,
    approve,
    attest,
    format_attestations,
    parse_attestations,
)
from consent.eventlog.errors import MalformedAttestation, WrongKeyKind
from consent.eventlog.keys import KeyKind, SigningKey
from consent.eventlog.trust import SourceRights, Trust, TrustedKey
from consent.vocabulary.directive import Kind
from tests.unit.consent.eventlog.signers import APPROVER_KEY, LOG_KEY, ORIGIN, SOURCE_KEY, TRUST, make_key

NOW = 1_800_000_000
SEQ = 9
EVIDENCE = bytes(range(32))
LEFT, RIGHT = bytes(16), bytes(range(16))
SECOND_APPROVER_KEY = make_key("approvers.example.com/grace", KeyKind.APPROVER, 7)
RIGHTS = SourceRights("web", ("*",), ("*",), max_proof=3, max_assurance=2)
TRUSTED = replace(
    TRUST,
    source_keys=(TrustedKey(SOURCE_KEY.verifier_key, rights=RIGHTS),),
    approver_keys=(TrustedKey(APPROVER_KEY.verifier_key), TrustedKey(SECOND_APPROVER_KEY.verifier_key)),
)
COMMON: dict[str, Any] = {"origin": ORIGIN, "source": "web"}
GRANT = DirectiveEvent(
    token=LEFT, kind=Kind.GRANT, occurred_at_ms=1, purpose="newsletter", proof=3, assurance=2, **COMMON
)
POLICY = PolicyEvent(version=2, replaces_version=1, document=b"{}", origin=ORIGIN, source="administrator")
OVERRIDE = OverrideEvent(token=LEFT, objection_seq=3, occurred_at_ms=1, purpose="newsletter", ground="law", **COMMON)
RELAXING: list[Event] = [
    GRANT,
    LinkEvent(left=LEFT, right=RIGHT, proof=2, occurred_at_ms=1, **COMMON),
    FactEvent(token=LEFT, age_band=3, proof=2, occurred_at_ms=1, **COMMON),
    RestrictionEvent(token=LEFT, restricted=False, proof=2, occurred_at_ms=1, **COMMON),
]
RESTRICTING: list[Event] = [
    *(replace(GRANT, kind=kind) for kind in Kind if kind != Kind.GRANT),
    replace(GRANT, kind=99),
    LinkEvent(left=LEFT, right=RIGHT, proof=1, occurred_at_ms=1, **COMMON),
    FactEvent(token=LEFT, age_band=3, proof=1, occurred_at_ms=1, **COMMON),
    RestrictionEvent(token=LEFT, restricted=True, proof=3, occurred_at_ms=1, **COMMON),
    UnlinkEvent(left=LEFT, right=RIGHT, occurred_at_ms=1, **COMMON),
]


def vouch(event: Event, evidence: bytes = EVIDENCE, key: SigningKey = SOURCE_KEY, at: int = NOW) -> list[Attestation]:
    return attest([(format_event(event), evidence)], ORIGIN, key, at)


def judge(event: Event, attestations: Sequence[Attestation], trust: Trust = TRUSTED, seq: int = SEQ) -> None:
    Authority(trust).verify(event, format_event(event), attestations, seq)


def sign_for(event: PolicyEvent | OverrideEvent, *keys: SigningKey) -> list[Attestation]:
    return [approve(ORIGIN, approved_content(event), key, NOW) for key in keys]


@pytest.mark.parametrize("event", RESTRICTING, ids=lambda event: type(event).__name__)
def test_what_restricts_needs_nobodys_signature(event: Event) -> None:
    judge(event, [])


@pytest.mark.parametrize("event", RELAXING, ids=lambda event: type(event).__name__)
def test_what_relaxes_needs_its_source(event: Event) -> None:
    judge(event, vouch(event))
    with pytest.raises(AttestationMissing):
        judge(event, [])
    with pytest.raises(AttestationInvalid):
        judge(event, vouch(replace(event, request_id=bytes(range(16)))))
    with pytest.raises(EvidenceMissing):
        judge(event, vouch(event, b""))


def test_weak_grant_needs_a_signature_and_no_evidence() -> None:
    weak = replace(GRANT, proof=1)
    judge(weak, vouch(weak, b""))
    assert needs_attestation(weak)
    assert not needs_evidence(weak)


def test_evidence_is_signed() -> None:
    (attestation,) = vouch(GRANT)
    with pytest.raises(AttestationInvalid):
        judge(GRANT, [replace(attestation, evidence_digest=bytes(32))])


@pytest.mark.parametrize(
    ("rights", "event"),
    [
        (replace(RIGHTS, source="other"), GRANT),
        (replace(RIGHTS, max_proof=2), GRANT),
        (replace(RIGHTS, max_assurance=1), GRANT),
        (replace(RIGHTS, purposes=("analytics",)), GRANT),
        (replace(RIGHTS, purposes=("newsletter",)), replace(GRANT, subtree=True)),
        (replace(RIGHTS, purposes=("newsletter",)), RELAXING[1]),
        (replace(RIGHTS, max_proof=1), RELAXING[3]),
    ],
)
def test_source_beyond_its_rights_is_refused(rights: SourceRights, event: Event) -> None:
    trust = replace(TRUSTED, source_keys=(TrustedKey(SOURCE_KEY.verifier_key, rights=rights),))
    with pytest.raises(BeyondRights):
        judge(event, vouch(event), trust)


def test_source_may_speak_of_the_purposes_it_is_trusted_with() -> None:
    trust = replace(
        TRUSTED,
        source_keys=(TrustedKey(SOURCE_KEY.verifier_key, rights=replace(RIGHTS, purposes=("newsletter",))),),
    )
    judge(GRANT, vouch(GRANT), trust)


def test_key_counts_for_its_time_and_up_to_its_last_entry() -> None:
    key = TrustedKey(SOURCE_KEY.verifier_key, NOW - 1, NOW + 1, last_seq=SEQ, rights=RIGHTS)
    trust = replace(TRUSTED, source_keys=(key,))
    judge(GRANT, vouch(GRANT), trust)
    for attestations, seq in (
        (vouch(GRANT, at=NOW + 2), SEQ),
        (vouch(GRANT, at=NOW - 2), SEQ),
        (vouch(GRANT), SEQ + 1),
    ):
        with pytest.raises(AttestationMissing):
            judge(GRANT, attestations, trust, seq)


def test_signature_under_another_time_is_refused() -> None:
    (attestation,) = vouch(GRANT)
    with pytest.raises(AttestationInvalid):
        judge(GRANT, [replace(attestation, signed_at_unix_seconds=NOW + 1)])


def test_unknown_keys_are_passed_over() -> None:
    stranger = make_key("web.example.com", KeyKind.SOURCE, 9)
    judge(GRANT, [*vouch(GRANT, key=stranger), *vouch(GRANT)])
    with pytest.raises(AttestationMissing):
        judge(GRANT, vouch(GRANT, key=stranger))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.data())
def test_one_signature_covers_a_batch_and_nothing_else(proofs: list[int], data: st.DataObject) -> None:
    events = [replace(GRANT, proof=proof, occurred_at_ms=number) for number, proof in enumerate(proofs)]
    attestations = attest([(format_event(event), EVIDENCE) for event in events], ORIGIN, SOURCE_KEY, NOW)
    assert len({attestation.signature for attestation in attestations}) == 1
    authority = Authority(TRUSTED)
    for event, attestation in zip(events, attestations, strict=True):
        authority.verify(event, format_event(event), [attestation], SEQ)
    at = data.draw(st.integers(0, len(events) - 1))
    other = replace(events[at], purpose="analytics")
    with pytest.raises(AttestationInvalid):
        authority.verify(other, format_event(other), [attestations[at]], SEQ)


@pytest.mark.parametrize("event", [POLICY, OVERRIDE], ids=["policy", "override"])
def test_what_governs_needs_two_people(event: PolicyEvent | OverrideEvent) -> None:
    judge(event, sign_for(event, APPROVER_KEY, SECOND_APPROVER_KEY))
    for too_few in ([], sign_for(event, APPROVER_KEY), sign_for(event, APPROVER_KEY) * 2):
        with pytest.raises(ApprovalsMissing):
            judge(event, too_few)


def test_two_keys_of_one_person_are_one_approver() -> None:
    rotated = make_key(APPROVER_KEY.name, KeyKind.APPROVER, 8)
    trust = replace(TRUSTED, approver_keys=(*TRUSTED.approver_keys, TrustedKey(rotated.verifier_key)))
    with pytest.raises(ApprovalsMissing):
        judge(POLICY, sign_for(POLICY, APPROVER_KEY, rotated), trust)


@pytest.mark.parametrize(
    "other",
    [replace(POLICY, version=3), replace(POLICY, replaces_version=0), replace(POLICY, document=b"[]")],
)
def test_approval_is_for_one_content_and_what_it_replaces(other: PolicyEvent) -> None:
    with pytest.raises(AttestationInvalid):
        judge(other, sign_for(POLICY, APPROVER_KEY, SECOND_APPROVER_KEY))


@pytest.mark.parametrize(
    "changes", [{"token": RIGHT}, {"objection_seq": 4}, {"purpose": "analytics"}, {"ground": "claims"}]
)
def test_approval_of_an_override_is_for_one_objection(changes: dict[str, object]) -> None:
    other = replace(OVERRIDE, **changes)  # type: ignore[arg-type]
    with pytest.raises(NotAuthorised):
        judge(other, sign_for(OVERRIDE, APPROVER_KEY, SECOND_APPROVER_KEY))


def test_keys_of_other_roles_cannot_sign() -> None:
    with pytest.raises(WrongKeyKind):
        attest([(b"", b"")], ORIGIN, LOG_KEY, NOW)
    with pytest.raises(WrongKeyKind):
        approve(ORIGIN, ("policy",), SOURCE_KEY, NOW)


def test_attestations_are_written_in_one_form_and_read_back() -> None:
    attestations = (*vouch(GRANT), *sign_for(POLICY, APPROVER_KEY))
    assert parse_attestations(format_attestations(attestations)) == attestations
    assert parse_attestations(b"") == ()
    assert format_attestations(()) == b""


@given(st.binary(max_size=300))
def test_malformed_attestations_are_refused_by_name(data: bytes) -> None:
    with contextlib.suppress(MalformedAttestation):
        assert format_attestations(parse_attestations(data)) == data
