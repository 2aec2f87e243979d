"""A real sidecar signs for its decision record: what it is, how far the record goes, and how the process before it ended."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2

from consent.eventlog.journal_head import HeadKind, JournalHead, parse_head, verify_head
from consent.policy import Policy
from journal.format import FrameKind, JournalMode
from journal.reader import FrameAt, read_frames
from journal.start import parse_start
from sidecar.journal.writer import OnUnavailable
from sidecar.runtime import load_keys, running_sidecar
from tests.fakes.histories import POLICY
from tests.fakes.system import System, policy_event, running_system

PERMITTING = replace(POLICY, journal_modes_permitted=frozenset({"async", "allow_and_count"}))


def weak(directory: Path) -> dict[str, Any]:
    """Settings that ask for less than usual."""
    weaker = {"mode": "async", "on_unavailable": "allow_and_count"}
    return {"journal": {"directory": directory / "weak", "ship": False, **weaker}}


def ask(value: str = "ada") -> decision_pb2.CheckRequest:
    subject = decision_pb2.Subject(identifiers=[event_pb2.Identifier(namespace="user", value=value)])
    return decision_pb2.CheckRequest(subject=subject, purposes=["left"])


def frames_of(system: System, kind: FrameKind) -> list[FrameAt]:
    keys = load_keys(system.settings)
    paths = sorted(system.settings.journal.directory.glob("*.journal"), key=lambda path: path.stat().st_mtime_ns)
    return [frame for path in paths for frame in read_frames(path, keys) if frame.kind == kind]


def heads_of(system: System) -> list[JournalHead]:
    heads = [parse_head(frame.records[0]) for frame in frames_of(system, FrameKind.HEAD)]
    for head in heads:
        verify_head(head, system.sidecar.trust.origin, system.sidecar.follower.enrolment.key.verifier_key.public_key)
    return heads


async def test_sidecar_counts_what_it_answered_by_every_method(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        async with system.stub() as stub:
            await stub.Check(ask())
            batch = decision_pb2.CheckBatchRequest(
                groups=[decision_pb2.BatchGroup(purposes=["left"], namespace="user", values=["ada", "bob", "eve"])]
            )
            await stub.CheckBatch(batch)
            stream = stub.CheckStream(iter([decision_pb2.CheckStreamRequest(correlation=1, batch=batch)]))
            assert [response.correlation async for response in stream] == [1]
        system.sidecar.journal.close()
        final = heads_of(system)[-1]
    assert (final.kind, final.decisions, final.answered, final.unrecorded) == (HeadKind.FINAL, 7, 7, 0)


async def test_sidecar_begins_its_journal_with_what_it_is(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        (frame,) = frames_of(system, FrameKind.START)
        note = parse_start(frame.records[0])
        assert (frame.segment, frame.frame) == (0, 0)
        assert (note.sidecar_id, note.mode, note.on_unavailable) == ("sidecar-1", JournalMode.GROUP, "deny")
        assert note.settings["journal"]["directory"] == str(system.settings.journal.directory)
        assert len(note.trust_sha256) == 64
        assert [each.use for each in note.certificates] == ["feed"] * (system.settings.feed.tls is not None)
        seed = system.sidecar.cache.signing_seed
        assert seed not in frame.records[0]
        assert seed.hex().encode() not in frame.records[0]


async def test_sidecar_with_weak_settings_keeps_a_strong_record_until_the_policy_permits_less(
    short_directory: Path,
) -> None:
    async with running_system(short_directory, policy=POLICY, sidecar_changes=weak(short_directory)) as system:
        journal = system.sidecar.journal
        assert (journal.mode, journal.on_unavailable) == (JournalMode.GROUP, OnUnavailable.DENY)
        await system.log(policy_event(next_version(PERMITTING)))
        assert await became(system, JournalMode.ASYNC)
        assert system.sidecar.report().journal_mode == "async"
        await system.log(policy_event(replace(next_version(POLICY), version=3, replaces_version=2)))
        assert await became(system, JournalMode.GROUP)
        assert journal.on_unavailable is OnUnavailable.DENY


async def test_sidecar_with_leave_keeps_the_weaker_record_over_a_restart(short_directory: Path) -> None:
    async with running_system(short_directory, policy=PERMITTING, sidecar_changes=weak(short_directory)) as system:
        assert await became(system, JournalMode.ASYNC)
        async with system.stub() as stub:
            await stub.Check(ask())
    async with running_sidecar(system.settings, boot_id="test") as again:
        assert (again.journal.mode, again.journal.on_unavailable) == WEAK_IN_EFFECT


async def test_sidecar_after_another_one_adds_nothing_to_a_chain_that_ended_in_order(short_directory: Path) -> None:
    async with running_system(short_directory) as system, system.stub() as stub:
        await stub.Check(ask())
    async with running_sidecar(system.settings, boot_id="test"):
        pass
    heads = heads_of(system)
    assert [head.kind for head in heads].count(HeadKind.RECOVERY) == 0
    assert [head.kind for head in heads].count(HeadKind.FINAL) == 2


WEAK_IN_EFFECT = (JournalMode.ASYNC, OnUnavailable.ALLOW_AND_COUNT)


def next_version(policy: Policy) -> Policy:
    return replace(policy, version=2, replaces_version=1)


async def became(system: System, mode: JournalMode) -> bool:
    """Whether the journal goes over to a mode."""
    async with asyncio.timeout(10):
        while system.sidecar.journal.mode is not mode:
            await asyncio.sleep(0.01)
    return True
