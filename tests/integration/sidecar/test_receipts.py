"""Enrolment, signed acknowledgements and trails between a real feed and real sidecars, over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc

from consent.event import ReceiptsEvent, parse_event
from consent.eventlog.keys import parse_verifier_key
from consent.eventlog.trust import Trust, open_trust
from consent.trail import VerifiedTrail, verify_trail
from consent.vocabulary.subject import Tokeniser
from feed.grpc_api.audit_service import decode_trail
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from sidecar.ports import SyncState
from sidecar.runtime import running_sidecar
from sidecar.sync.feed_client import GrpcFeedStream
from sidecar.sync.receipts import Receipts
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.fakes.system import SYNC_SECONDS, System, ask, running_system
from tests.integration.feed.sync_peer import refusal_of


class CrashedError(Exception):
    """Stands for the end of the process."""


NO_TOKEN = {"enrolment_token_file": None}


@asynccontextmanager
async def admin(
    system: System,
) -> AsyncIterator[tuple["audit_pb2_grpc.AuditServiceAsyncStub", "enrolment_pb2_grpc.EnrolmentServiceAsyncStub"]]:
    async with grpc.aio.insecure_channel(system.installation.socket("feed-admin")) as channel:
        yield audit_pb2_grpc.AuditServiceStub(channel), enrolment_pb2_grpc.EnrolmentServiceStub(channel)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(SYNC_SECONDS):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


def make_tokeniser(directory: Path) -> Tokeniser:
    return Tokeniser([load_keys(directory / "keys", ORIGIN).subject_key])


def trust_of(installation: TestInstallation) -> Trust:
    root_key = parse_verifier_key((installation.directory / "root.pub").read_text().strip())
    return open_trust((installation.directory / "trust.note").read_bytes(), root_key)


async def verified_trail(system: System, seq: int) -> VerifiedTrail:
    async with admin(system) as (audit, _):
        response = await audit.GetEventTrail(audit_pb2.GetEventTrailRequest(seq=seq))
    verified = verify_trail(decode_trail(response), trust_of(system.installation))
    everywhere = response.in_force_everywhere_at_ms if response.HasField("in_force_everywhere_at_ms") else None
    assert everywhere == verified.in_force_everywhere_at_ms
    return verified


async def wait_for_receipts(system: System, seq: int) -> VerifiedTrail:
    async def is_everywhere() -> bool:
        return (await verified_trail(system, seq)).in_force_everywhere_at_ms is not None

    await eventually(is_everywhere)
    return await verified_trail(system, seq)


async def members(system: System) -> dict[str, audit_pb2.FleetMember]:
    async with admin(system) as (audit, _):
        response = await audit.GetFleetStatus(audit_pb2.GetFleetStatusRequest())
    return {member.sidecar_id: member for member in response.sidecars}


async def wait_until_settled(system: System) -> None:
    """The sidecar is enrolled, and everything that it had to acknowledge stands in the log that it holds."""
    await eventually(lambda: system.sidecar.report().is_enrolled)
    enrolled = system.feed.log.head.tenant.find_sidecar("sidecar-1")
    assert enrolled is not None
    await wait_for_receipts(system, enrolled.enrolled_seq)
    cache = system.sidecar.cache
    await eventually(lambda: not cache.unconfirmed and not cache.owes_receipt)


async def log_receipts(system: System) -> list[ReceiptsEvent]:
    entries = await system.feed.log.read_entries(1, 1000)
    events = [parse_event(entry.event_bytes) for entry in entries]
    return [event for event in events if isinstance(event, ReceiptsEvent)]


async def effect_of(system: System, value: str) -> int:
    async with system.stub() as stub:
        return (await stub.Check(ask(value))).effect


async def test_opt_out_has_a_trail_to_every_enrolled_sidecar(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        second_settings = system.installation.sidecar_settings("sidecar-2")
        async with running_sidecar(second_settings, boot_id="test") as second:
            await eventually(
                lambda: second.follower.enrolment.is_enrolled and system.sidecar.follower.enrolment.is_enrolled
            )
            seq = await system.log(system.opt_out("ada"))
            verified = await wait_for_receipts(system, seq)
            assert [word.sidecar_id for word in verified.sidecars] == ["sidecar-1", "sidecar-2"]
            await eventually(lambda: not system.sidecar.cache.unconfirmed and not second.cache.unconfirmed)
            fleet = await members(system)
            states = {name: member.enrolment for name, member in fleet.items()}
            assert states == dict.fromkeys(("sidecar-1", "sidecar-2"), audit_pb2.ENROLMENT_STATE_ENROLLED)
            assert all(member.receipt_size >= seq and member.version for member in fleet.values())
            async with admin(system) as (audit, _):
                status = await audit.GetFleetStatus(audit_pb2.GetFleetStatusRequest())
            assert seq <= status.size_in_force_everywhere <= status.log_size


async def test_receipts_breed_no_receipts(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        seq = await system.log(system.opt_out("ada"))
        await wait_for_receipts(system, seq)
        await eventually(lambda: not system.sidecar.cache.unconfirmed)
        size, logged = system.feed.log.head.size, len(await log_receipts(system))
        # Several periods of receipts_seconds and a checkpoint signed anew, in which nobody says anything.
        await system.feed.log.resign_now()
        await system.log(system.opt_out("eve"))
        await wait_for_receipts(system, size + 1)
        assert len(await log_receipts(system)) == logged + 1
        assert system.feed.log.head.size == size + 2


async def test_sidecar_without_a_token_answers_and_proves_nothing_until_it_is_approved(short_directory: Path) -> None:
    async with running_system(short_directory, sidecar_changes=NO_TOKEN) as system:
        seq = await system.log(system.opt_out("ada"))
        assert await effect_of(system, "ada") == decision_pb2.EFFECT_DENY
        assert (await members(system))["sidecar-1"].enrolment == audit_pb2.ENROLMENT_STATE_PENDING
        assert not system.sidecar.report().is_enrolled
        assert (await verified_trail(system, seq)).sidecars == ()
        async with admin(system) as (_, enrolment):
            pending = await enrolment.ListPendingEnrolments(enrolment_pb2.ListPendingEnrolmentsRequest())
            (asked,) = pending.pending
            assert asked.key_id == system.sidecar.report().key_id
            await enrolment.ApproveEnrolment(
                enrolment_pb2.ApproveEnrolmentRequest(sidecar_id="sidecar-1", key_id=asked.key_id)
            )
        verified = await wait_for_receipts(system, seq)
        assert [word.sidecar_id for word in verified.sidecars] == ["sidecar-1"]
        await eventually(lambda: system.sidecar.report().is_enrolled)


async def test_retired_sidecar_is_cut_off_and_no_longer_counts(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        await eventually(lambda: system.sidecar.report().is_enrolled)
        async with admin(system) as (_, enrolment):
            await enrolment.RetireSidecar(enrolment_pb2.RetireSidecarRequest(sidecar_id="sidecar-1"))
            await eventually(lambda: system.sidecar.follower.last_error_reason == "SIDECAR_RETIRED")
            assert system.sidecar.follower.state is SyncState.REFUSED
            assert (await verified_trail(system, 1)).sidecars == ()
            assert not system.sidecar.report().is_enrolled
            request = enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id="sidecar-1", valid_seconds=60)
            token = (await enrolment.IssueEnrolmentToken(request)).enrolment_token
        token_file = system.settings.enrolment_token_file
        assert token_file is not None
        token_file.write_text(token)
        await eventually(lambda: system.sidecar.report().is_enrolled)
        seq = await system.log(system.opt_out("ada"))
        verified = await wait_for_receipts(system, seq)
        assert [word.sidecar_id for word in verified.sidecars] == ["sidecar-1"]


async def test_acknowledgements_that_were_lost_on_the_way_are_sent_after_a_restart(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install(short_directory)
    settings, tokeniser = installation.sidecar_settings(), make_tokeniser(short_directory)
    async with running_feed(installation.feed_settings()) as feed:
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system = System(installation, feed, sidecar, settings, tokeniser)
            await wait_until_settled(system)

            async def lose(*_: object) -> None:
                return

            with monkeypatch.context() as patched:
                patched.setattr(GrpcFeedStream, "acknowledge", lose)
                seq = await system.log(system.opt_out("ada"))
                await eventually(lambda: sidecar.report().unconfirmed_receipts == 1)
            applied_at_ms = sidecar.cache.unconfirmed[0].applied_at_ms
            assert (await verified_trail(system, seq)).lacking == ("sidecar-1",)
        async with running_sidecar(settings, boot_id="test") as sidecar:
            verified = await wait_for_receipts(system, seq)
            assert verified.in_force_everywhere_at_ms == applied_at_ms
            await eventually(lambda: not sidecar.cache.unconfirmed)


async def test_crash_between_putting_in_force_and_acknowledging_costs_no_receipt(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install(short_directory)
    settings, tokeniser = installation.sidecar_settings(), make_tokeniser(short_directory)
    async with running_feed(installation.feed_settings()) as feed:
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system = System(installation, feed, sidecar, settings, tokeniser)
            await wait_until_settled(system)

            def crash(*_: object) -> None:
                raise CrashedError

            # Until its end it signs nothing more, so that the next one finds the debt in the file and nothing else.
            monkeypatch.setattr(Receipts, "sign", crash)
            seq = await system.log(system.opt_out("ada"))
            await eventually(lambda: sidecar.cache.owes_receipt)
            assert (await verified_trail(system, seq)).lacking == ("sidecar-1",)
        monkeypatch.undo()
        async with running_sidecar(settings, boot_id="test") as sidecar:
            assert (await wait_for_receipts(system, seq)).lacking == ()
            await eventually(lambda: not sidecar.cache.unconfirmed)


async def test_feed_restart_resumes_receipts(short_directory: Path) -> None:
    async with AsyncExitStack() as feed_only, running_system(short_directory, feed_lifetime=feed_only) as system:
        first = await system.log(system.opt_out("ada"))
        await feed_only.aclose()
        async with running_feed(system.installation.feed_settings()) as feed:
            system.feed = feed
            second = await system.log(system.opt_out("eve"))
            for seq in (first, second):
                assert (await wait_for_receipts(system, seq)).lacking == ()


async def test_event_trail_of_no_entry_and_of_no_sidecar_are_named(short_directory: Path) -> None:
    async with running_system(short_directory, sidecar_changes=NO_TOKEN) as system, admin(system) as (audit, enrolment):
        calls = {
            "ENTRY_UNKNOWN": audit.GetEventTrail(audit_pb2.GetEventTrailRequest(seq=10**6)),
            "SIDECAR_UNKNOWN": enrolment.RetireSidecar(enrolment_pb2.RetireSidecarRequest(sidecar_id="nobody")),
            "INVALID_REQUEST": enrolment.IssueEnrolmentToken(
                enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id="a b", valid_seconds=1)
            ),
        }
        for reason, call in calls.items():
            assert (await refusal_of(call))[1] == reason
