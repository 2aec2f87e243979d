"""Intake vouches, as the source, for what relaxes and for nothing else; what it cannot vouch for is refused and logged."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from consent.authority import BeyondRights
from consent.event import DirectiveEvent, parse_event
from consent.eventlog.attestation import Attestation
from consent.vocabulary.directive import Proof
from feed.errors import InvalidRequest, SourceNotPermitted
from feed.intake.requests import RecordFact, RecordRestriction, Subject
from feed.ports import Accepted, StoredEntry
from tests.fakes.signers import EVIDENCE, source_key
from tests.unit.feed.intake.desk import ANNA, CALL_CENTRE, IMPORT, NOW_MS, WEB, Desk, grant, link, opt_out

FACT = RecordFact(idempotency_key="f", subject=ANNA, age_band=3, proof=2, evidence_digest=EVIDENCE)
LIFT = RecordRestriction(idempotency_key="r", subject=ANNA, restricted=False, proof=2, evidence_digest=EVIDENCE)
KEYLESS = replace(WEB, signing_key=None)


def people(count: int) -> list[Subject]:
    return [Subject("email", f"person-{number}@example.com") for number in range(count)]


async def record(desk: Desk, source: Any, request: Any) -> Accepted:
    method = {RecordFact: "record_fact", RecordRestriction: "record_restriction"}.get(type(request))
    if method is None:
        method = "record_link" if hasattr(request, "left") else "record_directive"
    accepted: Accepted = await getattr(desk.recorder, method)(source, request)
    return accepted


def signatures(entries: Sequence[StoredEntry]) -> list[Attestation]:
    return [attestation for entry in entries for attestation in entry.attestations]


RELAXING = [grant(), link(proof=2), FACT, LIFT]


@pytest.mark.parametrize("request_", RELAXING, ids=lambda request: type(request).__name__)
async def test_recorder_signs_what_relaxes_as_its_source_with_its_evidence(request_: Any) -> None:
    desk = await Desk().open()
    before = len(desk.log.entries)
    await record(desk, WEB, request_)
    (attestation,) = signatures(desk.log.entries[before:])
    assert attestation.key_name == source_key("web").name
    assert attestation.evidence_digest == EVIDENCE
    assert attestation.signed_at_unix_seconds == NOW_MS // 1000


@pytest.mark.parametrize(
    "request_",
    [opt_out(), link(), replace(FACT, proof=Proof.LINK), replace(LIFT, restricted=True)],
    ids=lambda request: type(request).__name__,
)
async def test_recorder_takes_what_restricts_from_a_source_without_a_key(request_: Any) -> None:
    desk = await Desk().open()
    before = len(desk.log.entries)
    await record(desk, KEYLESS, request_)
    assert signatures(desk.log.entries[before:]) == []


@pytest.mark.parametrize("request_", RELAXING, ids=lambda request: type(request).__name__)
async def test_recorder_source_without_a_key_cannot_relax(request_: Any) -> None:
    desk = await Desk().open()
    with pytest.raises(SourceNotPermitted, match="no signing key"):
        await record(desk, KEYLESS, request_)
    assert desk.rejections() == ["SOURCE_NOT_PERMITTED"]
    # The same request passes once the source has its key.
    assert not (await record(desk, WEB, request_)).is_replay


@pytest.mark.parametrize("request_", RELAXING, ids=lambda request: type(request).__name__)
async def test_recorder_proof_without_evidence_is_refused_by_the_field(request_: Any) -> None:
    desk = await Desk().open()
    with pytest.raises(InvalidRequest, match=r"^evidence_digest: is required"):
        await record(desk, WEB, replace(request_, evidence_digest=b""))
    assert desk.rejections() == ["INVALID_REQUEST"]


async def test_recorder_evidence_of_another_length_is_refused_by_the_field() -> None:
    desk = await Desk().open()
    with pytest.raises(InvalidRequest, match=r"^evidence_digest: must be empty or 32 bytes"):
        await record(desk, WEB, grant(evidence_digest=bytes(31)))


async def test_recorder_grant_without_the_persons_proof_needs_no_evidence() -> None:
    desk = await Desk().open()
    await record(desk, WEB, grant(proof=Proof.LINK, evidence_digest=b""))
    assert [attestation.evidence_digest for attestation in signatures(desk.log.entries)][-1] == b""


async def test_recorder_same_key_with_other_evidence_is_another_request() -> None:
    desk = await Desk().open()
    await record(desk, WEB, grant())
    with pytest.raises(Exception, match="other content"):
        await record(desk, WEB, grant(evidence_digest=bytes(32)))


async def test_recorder_key_beyond_its_rights_in_the_trust_file_is_refused_and_logged() -> None:
    desk = await Desk().open()
    thief = replace(WEB, name="shop")
    with pytest.raises(BeyondRights):
        await record(desk, thief, grant())
    assert desk.rejections() == ["BEYOND_RIGHTS"]


async def test_recorder_signs_once_for_all_of_a_message_that_relaxes() -> None:
    desk = await Desk().open()
    before = len(desk.log.entries)
    requests = [grant(f"g{number}", subject) for number, subject in enumerate(people(5))]
    requests.insert(2, opt_out("no", ANNA))
    outcomes = await desk.recorder.record_directives(WEB, requests)
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 6
    signed = signatures(desk.log.entries[before:])
    assert len({attestation.signature for attestation in signed}) == 1
    assert [attestation.batch_index for attestation in signed] == list(range(5))
    assert {attestation.batch_size for attestation in signed} == {5}
    unsigned = [entry for entry in desk.log.entries[before:] if not entry.attestations]
    assert [
        event.kind for event in map(parse_event, (e.event_bytes for e in unsigned)) if isinstance(event, DirectiveEvent)
    ] == [2]


async def test_recorder_refusals_within_a_message_stay_in_their_places() -> None:
    desk = await Desk().open()
    requests = [grant("a"), grant("", ANNA), grant("c", evidence_digest=b""), grant("d", people(1)[0])]
    first, no_key, no_evidence, last = await desk.recorder.record_directives(WEB, requests)
    assert isinstance(first, Accepted)
    assert isinstance(no_key, InvalidRequest)
    assert isinstance(no_evidence, InvalidRequest)
    assert isinstance(last, Accepted)


async def test_recorder_import_without_a_key_records_denials_and_no_grants() -> None:
    desk = await Desk().open()
    keyless = replace(IMPORT, signing_key=None)
    no, yes = await desk.recorder.record_directives(
        keyless, [opt_out("row 1"), grant("row 2", people(1)[0], proof=0, evidence_digest=b"")]
    )
    assert isinstance(no, Accepted)
    assert isinstance(yes, SourceNotPermitted)


async def test_recorder_import_of_one_message_meets_the_denial_of_an_earlier_row() -> None:
    desk = await Desk().open()
    requests = [opt_out("row 1"), grant("row 2", proof=0, evidence_digest=b"")]
    async with asyncio.timeout(10):
        no, yes = await desk.recorder.record_directives(IMPORT, requests)
    assert isinstance(no, Accepted)
    assert getattr(yes, "reason", "") == "RECORD_EXISTS"


async def test_recorder_source_of_few_purposes_signs_for_these() -> None:
    desk = await Desk().open()
    await record(desk, CALL_CENTRE, grant(proof=Proof.LINK, purpose="newsletter"))
    assert signatures(desk.log.entries)[-1].key_name == source_key("call-centre").name
