"""The sequencer logs nothing that a sidecar would refuse for want of a signature, and keeps the signatures it was given."""

from dataclasses import replace
from pathlib import Path

import pytest

from consent.authority import ApprovalsMissing, AttestationInvalid, AttestationMissing, NotAuthorised
from consent.event import Event, OverrideEvent, PolicyEvent
from consent.eventlog.attestation import Attestation
from feed.ports import Submission
from tests.fakes.feed_log import (
    ORIGIN,
    SIGNERS,
    make_directive,
    make_link,
    make_policy,
    make_request,
    make_submission,
    open_log,
    read_all,
    token_of,
    verify_everything,
)

GRANT = make_directive("ann", kind=1, proof=2)
POLICY = PolicyEvent(origin=ORIGIN, version=1, replaces_version=0, document=make_policy())
OVERRIDE = OverrideEvent(
    origin=ORIGIN, token=token_of("ann"), objection_seq=1, occurred_at_ms=1, purpose="marketing", ground="law"
)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (GRANT, AttestationMissing),
        (make_link("ann", "bob"), AttestationMissing),
        (POLICY, ApprovalsMissing),
        (OVERRIDE, ApprovalsMissing),
    ],
    ids=["grant", "link", "policy", "override"],
)
async def test_sequencer_unsigned_event_is_refused_and_takes_nobody_with_it(
    tmp_path: Path, event: Event, error: type[NotAuthorised]
) -> None:
    async with open_log(tmp_path) as log:
        with pytest.raises(error):
            await log.sequencer.submit(Submission((make_directive("eve"), event)))
        assert (await log.sequencer.submit(make_request("bob"))).seq == 3
        assert (await log.sequencer.submit(make_submission((event,)))).seq == 4
        assert len(await verify_everything(log.store)) == 4


async def test_sequencer_signature_for_another_event_is_refused(tmp_path: Path) -> None:
    other = replace(GRANT, purpose="*")
    async with open_log(tmp_path) as log:
        with pytest.raises(AttestationInvalid):
            await log.sequencer.submit(Submission((other,), attestations=(SIGNERS.sign(GRANT),)))
        assert log.sequencer.head.size == 1


async def test_sequencer_signatures_are_kept_through_a_restart(tmp_path: Path) -> None:
    signed: list[tuple[Attestation, ...]] = [(), SIGNERS.sign(POLICY), (), SIGNERS.sign(GRANT)]
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_submission((POLICY,)))
        await log.sequencer.submit(Submission((make_directive("eve"), GRANT), None, "00-trace-01", signed[2:]))
        assert [entry.attestations for entry in await log.sequencer.read_entries(1, 9)] == signed
    async with open_log(tmp_path) as log:
        entries = await read_all(log.store)
        assert [entry.attestations for entry in entries] == signed
        assert entries[3].traceparent == "00-trace-01"


async def test_sequencer_signatures_are_sealed_on_the_disk(tmp_path: Path) -> None:
    (attestation,) = SIGNERS.sign(GRANT)
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_submission((GRANT,)))
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert stored
    assert attestation.signature not in stored
    assert attestation.evidence_digest not in stored
