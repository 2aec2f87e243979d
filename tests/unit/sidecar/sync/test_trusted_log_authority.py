"""Who has only the log's key, or one stolen key more, gets no consent and no policy past the door."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consent.authority import approved_content
from consent.event import (
    DirectiveEvent,
    Event,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    PolicyEvent,
    RestrictionEvent,
    format_event,
)
from consent.eventlog.attestation import Attestation, approve, attest
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from consent.eventlog.trust import Trust
from consent.policy import format_policy, policy_from_mapping
from sidecar import errors
from sidecar.ports import EMPTY_HEAD, VerifiedBatch
from sidecar.sync.trusted_log import Moment, TrustedLog
from tests.fakes.signers import EVIDENCE, SIGNED_AT
from tests.fakes.signing_feed import ORIGIN, SIGNERS, START_MS, TRUST, SigningFeed, opt_out

NOW = Moment(START_MS + 500, 1_000, "boot-1")
FORGER = generate_signing_key("source.example/web", KeyKind.SOURCE, bytes([7]) * 32)
TOKEN, OTHER_TOKEN = bytes(16), bytes([1] * 16)


def grant(number: int = 1, **changes: object) -> DirectiveEvent:
    return opt_out(number, "newsletter", **{"kind": 1, "source": "web", "proof": 2, **changes})


def policy(version: int = 1, replaces_version: int = 0, **changes: object) -> PolicyEvent:
    fields = {"version": version, "purposes": {"newsletter": {}}} | changes
    document = format_policy(policy_from_mapping(fields))
    return PolicyEvent(origin=ORIGIN, version=version, replaces_version=replaces_version, document=document)


RELAXING: list[Event] = [
    grant(),
    grant(proof=0),
    LinkEvent(origin=ORIGIN, source="web", left=TOKEN, right=OTHER_TOKEN, proof=2, occurred_at_ms=1),
    FactEvent(origin=ORIGIN, source="web", token=TOKEN, age_band=3, proof=2, occurred_at_ms=1),
    RestrictionEvent(origin=ORIGIN, source="web", token=TOKEN, restricted=False, proof=2, occurred_at_ms=1),
]
GOVERNING: list[Event] = [
    policy(),
    OverrideEvent(
        origin=ORIGIN,
        source="web",
        token=TOKEN,
        objection_seq=1,
        occurred_at_ms=1,
        purpose="newsletter",
        ground="law",
    ),
]


def vouch(
    *events: Event, key: SigningKey = SIGNERS.sources["web"], evidence: bytes = EVIDENCE, origin: str = ORIGIN
) -> list[Attestation]:
    return attest([(format_event(event), evidence) for event in events], origin, key, SIGNED_AT)


def approvals(event: PolicyEvent, *keys: SigningKey, origin: str = ORIGIN) -> tuple[Attestation, ...]:
    return tuple(approve(origin, approved_content(event), key, SIGNED_AT) for key in keys)


def receive(feed: SigningFeed, trust: Trust = TRUST) -> VerifiedBatch:
    batch = TrustedLog(trust, EMPTY_HEAD).receive_entries(feed.entries(), NOW)
    assert batch is not None
    return batch


def send(event: Event, *attestations: Attestation, trust: Trust = TRUST) -> VerifiedBatch:
    feed = SigningFeed([opt_out(9)])
    feed.append(event, attestations)
    return receive(feed, trust)


@pytest.mark.parametrize("event", [*RELAXING, *GOVERNING], ids=lambda event: type(event).__name__)
def test_receive_entries_signed_by_whom_it_must_be_gets_through(event: Event) -> None:
    assert send(event, *SIGNERS.sign(event)).events[-1].event == event


@pytest.mark.parametrize("event", RELAXING, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("key", [None, FORGER], ids=["nobody", "a stranger with the source's name"])
def test_receive_entries_feed_without_a_source_key_relaxes_nothing(event: Event, key: SigningKey | None) -> None:
    with pytest.raises(errors.EntryRejected, match="entry 3: ATTESTATION_MISSING"):
        send(event, *(vouch(event, key=key) if key is not None else ()))


@pytest.mark.parametrize("event", GOVERNING, ids=lambda event: type(event).__name__)
def test_receive_entries_feed_alone_changes_no_rules(event: Event) -> None:
    with pytest.raises(errors.EntryRejected, match="entry 3: APPROVALS_MISSING"):
        send(event, *vouch(event))


def test_receive_entries_refused_entry_leaves_nothing_of_its_batch() -> None:
    trusted, feed = TrustedLog(TRUST, EMPTY_HEAD), SigningFeed([opt_out(1)])
    honest = feed.entries()
    feed.append(grant(), ())
    with pytest.raises(errors.EntryRejected):
        trusted.receive_entries(feed.entries(), NOW)
    batch = trusted.receive_entries(honest, NOW)
    assert batch is not None
    assert batch.head.size == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda event: replace(event, purpose="*"), "ATTESTATION_INVALID"),
        (lambda event: replace(event, token=OTHER_TOKEN), "ATTESTATION_INVALID"),
        (lambda event: replace(event, expires_at_ms=None, proof=3), "ATTESTATION_INVALID"),
        (lambda event: replace(event, source="shop"), "ATTESTATION_INVALID"),
    ],
)
def test_receive_entries_signature_does_not_serve_for_another_event(
    change: Callable[[DirectiveEvent], DirectiveEvent], reason: str
) -> None:
    with pytest.raises(errors.EntryRejected, match=reason):
        send(change(grant()), *vouch(grant()))


def test_receive_entries_signature_for_another_log_does_not_serve() -> None:
    with pytest.raises(errors.EntryRejected, match="ATTESTATION_INVALID"):
        send(grant(), *vouch(grant(), origin="other.example/log"))


def test_receive_entries_proof_without_evidence_is_refused() -> None:
    with pytest.raises(errors.EntryRejected, match="EVIDENCE_MISSING"):
        send(grant(), *vouch(grant(), evidence=b""))


def test_receive_entries_evidence_of_another_event_is_refused() -> None:
    (attestation,) = vouch(grant())
    with pytest.raises(errors.EntryRejected, match="ATTESTATION_INVALID"):
        send(grant(), replace(attestation, evidence_digest=bytes(32)))


def test_receive_entries_batch_of_a_source_gets_through_and_an_exchanged_event_does_not() -> None:
    events = [grant(number) for number in range(1, 6)]
    signed = vouch(*events)
    feed, forged = SigningFeed(), SigningFeed()
    for number, (event, attestation) in enumerate(zip(events, signed, strict=True)):
        feed.append(event, (attestation,))
        forged.append(replace(event, purpose="*") if number == 3 else event, (attestation,))
    assert receive(feed).head.size == 6
    with pytest.raises(errors.EntryRejected, match="entry 5: ATTESTATION_INVALID"):
        receive(forged)


def test_receive_entries_events_of_a_batch_do_not_change_places() -> None:
    first, second = vouch(grant(1), grant(2))
    feed = SigningFeed()
    feed.append(grant(1), (second,))
    feed.append(grant(2), (first,))
    with pytest.raises(errors.EntryRejected, match="entry 2: ATTESTATION_INVALID"):
        receive(feed)


def test_receive_entries_stolen_source_key_counts_no_more_behind_its_last_entry() -> None:
    web = next(key for key in TRUST.source_keys if key.rights is not None and key.rights.source == "web")
    others = tuple(key for key in TRUST.source_keys if key is not web)
    trust = replace(TRUST, source_keys=(*others, replace(web, last_seq=3)))
    feed = SigningFeed([grant(1), grant(2)])
    assert receive(feed, trust).head.size == 3
    # Whatever time a thief claims.
    early = attest([(format_event(grant(3)), EVIDENCE)], ORIGIN, SIGNERS.sources["web"], 1)
    feed.append(grant(3), tuple(early))
    with pytest.raises(errors.EntryRejected, match="entry 4: ATTESTATION_MISSING"):
        receive(feed, trust)


def test_receive_entries_key_of_a_source_speaks_for_no_other_source() -> None:
    event = grant(source="accounts")
    with pytest.raises(errors.EntryRejected, match="BEYOND_RIGHTS"):
        send(event, *vouch(event, key=SIGNERS.sources["web"]))


def test_receive_entries_policy_with_one_approver_is_refused() -> None:
    with pytest.raises(errors.EntryRejected, match="APPROVALS_MISSING: approvals: 1 of the 2"):
        send(policy(), *approvals(policy(), SIGNERS.approvers[0]))


def test_receive_entries_policy_approved_twice_by_one_person_is_refused() -> None:
    ada = SIGNERS.approvers[0]
    with pytest.raises(errors.EntryRejected, match="APPROVALS_MISSING"):
        send(policy(), *approvals(policy(), ada, ada))


@pytest.mark.parametrize(
    "other", [policy(2, 1), policy(1, purposes={"newsletter": {"legal_basis": "li"}})], ids=["version", "document"]
)
def test_receive_entries_approvals_of_another_policy_are_refused(other: PolicyEvent) -> None:
    with pytest.raises(errors.EntryRejected, match="ATTESTATION_INVALID"):
        send(policy(), *approvals(other, *SIGNERS.approvers))


def test_receive_entries_approvals_for_another_log_are_refused() -> None:
    with pytest.raises(errors.EntryRejected, match="ATTESTATION_INVALID"):
        send(policy(), *approvals(policy(), *SIGNERS.approvers, origin="other.example/log"))


def test_receive_entries_without_approvers_in_the_trust_file_no_policy_gets_through() -> None:
    with pytest.raises(errors.EntryRejected, match="APPROVALS_MISSING"):
        send(policy(), *SIGNERS.sign(policy()), trust=replace(TRUST, approver_keys=()))


def test_receive_entries_denials_need_nobody() -> None:
    trust = replace(TRUST, source_keys=(), approver_keys=())
    assert send(opt_out(1), trust=trust).head.size == 3


def test_verify_entry_proof_of_an_unsigned_grant_is_refused() -> None:
    feed = SigningFeed([grant()])
    batch = receive(feed)
    proof = feed.entry_proof(2, 2)
    trusted = TrustedLog(TRUST, batch.head)
    assert trusted.verify_entry_proof(2, proof, batch.head) == grant()
    bare = replace(proof, entry=replace(proof.entry, attestations=()))
    with pytest.raises(errors.EntryRejected, match="ATTESTATION_MISSING"):
        trusted.verify_entry_proof(2, bare, batch.head)
