"""Heads of journals on their way into the log: checked, logged once, answered when logged, and a fork found."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from consent.event import AlertEvent, DisposalEvent, JournalHeadsEvent, parse_event
from consent.eventlog.journal_head import JournalDisposal, JournalHead, hash_head
from feed import journal_heads
from feed.errors import (
    FeedError,
    HeadConflict,
    HeadInvalid,
    InvalidRequest,
    LogWriteFailed,
    Overloaded,
    SidecarNotEnrolled,
    SidecarNotPermitted,
)
from feed.journal_heads import JournalStatements
from feed.log_store.port import HeadPlace
from tests.fakes.feed_log import ORIGIN, read_all, verify_everything
from tests.fakes.fleet import Fleet, open_fleet
from tests.fakes.journal_heads import make_disposal, make_heads, resigned
from tests.fakes.trails import make_sidecar_key

KEY = make_sidecar_key("pod-1")
OTHER_KEY = make_sidecar_key("pod-2")


async def record(
    fleet: Fleet,
    heads: Sequence[JournalHead] = (),
    disposals: Sequence[JournalDisposal] = (),
    *,
    sidecar_id: str = "pod-1",
) -> int:
    """Asks, and lets the log write what waits as soon as it waits."""
    asked = asyncio.create_task(fleet.heads.record(JournalStatements(sidecar_id, heads, disposals)))
    async with asyncio.timeout(10):
        while not asked.done():
            await fleet.heads.flush()
            await asyncio.sleep(0)
    return await asked


async def logged(fleet: Fleet) -> list[list[tuple[str, int]]]:
    """(sidecar, number) of the heads in each JOURNAL_HEADS entry."""
    events = [parse_event(entry.event_bytes) for entry in await read_all(fleet.log.store)]
    return [
        [(head.sidecar_id, head.number) for head in event.heads]
        for event in events
        if isinstance(event, JournalHeadsEvent)
    ]


async def alerts(fleet: Fleet) -> list[tuple[str, str, bool]]:
    events = [parse_event(entry.event_bytes) for entry in await read_all(fleet.log.store)]
    return [(event.alert, event.about, event.is_over) for event in events if isinstance(event, AlertEvent)]


async def wait_for_waiting(fleet: Fleet, count: int) -> None:
    async with asyncio.timeout(10):
        while len(fleet.heads._waiting) < count:
            await asyncio.sleep(0)


async def test_heads_of_several_sidecars_are_logged_in_one_entry_and_found_again(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        for name in ("pod-1", "pod-2"):
            await fleet.enrol(name)
        first, second = make_heads(KEY, ORIGIN, 3), make_heads(OTHER_KEY, ORIGIN, 1)
        asked = [
            asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", first))),
            asyncio.create_task(fleet.heads.record(JournalStatements("pod-2", second))),
        ]
        await wait_for_waiting(fleet, 2)
        await fleet.heads.flush()
        seq = fleet.log.sequencer.head.size
        assert await asyncio.gather(*asked) == [seq, seq]
        (together,) = await logged(fleet)
        assert sorted(together) == [("pod-1", 0), ("pod-1", 1), ("pod-1", 2), ("pod-2", 0)]
        store, chain_id = fleet.log.store, first[0].chain_id
        assert await store.find_journal_head("pod-1", chain_id) == HeadPlace(2, hash_head(first[2]), seq)
        assert await store.find_journal_head("pod-1", chain_id, 1) == HeadPlace(1, hash_head(first[1]), seq)
        assert await store.find_journal_head("pod-2", chain_id, 1) is None
        assert await store.find_journal_head("pod-3", chain_id) is None
        await verify_everything(store)


async def test_heads_again_change_nothing_also_after_a_restart(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 4)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        seq = await record(fleet, heads[:2])
        assert await record(fleet, heads[:2]) == seq
        assert await record(fleet, heads[:1]) == seq
        assert await record(fleet, heads[1:3]) == seq + 1
        size = fleet.log.sequencer.head.size
    async with open_fleet(tmp_path) as fleet:
        assert (await record(fleet, heads[:2]), await record(fleet, heads[:3])) == (seq, seq + 1)
        assert fleet.log.sequencer.head.size == size
        assert await record(fleet, heads) == size + 1
        assert await logged(fleet) == [[("pod-1", 0), ("pod-1", 1)], [("pod-1", 2)], [("pod-1", 3)]]


async def test_heads_may_leave_numbers_out_and_never_go_back(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 6)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await record(fleet, [heads[1], heads[4]])
        with pytest.raises(HeadInvalid):
            await record(fleet, [heads[2]])
        await record(fleet, heads[5:])
        assert await logged(fleet) == [[("pod-1", 1), ("pod-1", 4)], [("pod-1", 5)]]
        assert await alerts(fleet) == []


async def test_head_at_a_place_that_is_taken_is_a_conflict_with_one_alert(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 4)
    forked = make_heads(KEY, ORIGIN, 3, after=heads[0], salt=1)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await record(fleet, heads[:3])
        for conflicting in (forked[:1], forked[1:2], [forked[2]], [*heads[:1], *forked]):
            with pytest.raises(HeadConflict):
                await record(fleet, conflicting)
        assert await alerts(fleet) == [("JOURNAL_FORKED", "pod-1", False)]
        # The chain that the log knows goes on, and so does every other.
        await record(fleet, heads[3:])
        other_chain = make_heads(KEY, ORIGIN, 1, chain="b")
        await record(fleet, other_chain)
        assert await logged(fleet) == [[("pod-1", 0), ("pod-1", 1), ("pod-1", 2)], [("pod-1", 3)], [("pod-1", 0)]]


async def test_conflict_whose_alert_cannot_be_logged_is_no_conflict_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = make_heads(KEY, ORIGIN, 2)
    forked = make_heads(KEY, ORIGIN, 1, after=heads[0], salt=1)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await record(fleet, heads)
        with monkeypatch.context() as patched:
            fail_commits(fleet, patched)
            with pytest.raises(LogWriteFailed):
                await record(fleet, forked)
        with pytest.raises(HeadConflict):
            await record(fleet, forked)
        assert await alerts(fleet) == [("JOURNAL_FORKED", "pod-1", False)]


async def test_what_is_not_the_sidecars_word_is_refused_by_name(tmp_path: Path) -> None:
    head, second = make_heads(KEY, ORIGIN, 2)
    disposal = make_disposal(KEY, ORIGIN)
    by_another_key = make_sidecar_key("pod-1", seed=1)
    cases: list[tuple[type[FeedError], JournalStatements]] = [
        (InvalidRequest, JournalStatements("pod-1")),
        (InvalidRequest, JournalStatements("pod-1", [head] * 501)),
        (InvalidRequest, JournalStatements("pod-1", [], [disposal] * 501)),
        (SidecarNotPermitted, JournalStatements("pod-1", make_heads(OTHER_KEY, ORIGIN, 1))),
        (SidecarNotPermitted, JournalStatements("pod-1", [head], [make_disposal(OTHER_KEY, ORIGIN)])),
        (SidecarNotEnrolled, JournalStatements("pod-2", make_heads(OTHER_KEY, ORIGIN, 1))),
        (HeadInvalid, JournalStatements("pod-1", [replace(head, decisions=9)])),
        (HeadInvalid, JournalStatements("pod-1", make_heads(KEY, "another.example/log", 1))),
        (HeadInvalid, JournalStatements("pod-1", make_heads(by_another_key, ORIGIN, 1))),
        (HeadInvalid, JournalStatements("pod-1", [second, head])),
        (HeadInvalid, JournalStatements("pod-1", [head, head])),
        (HeadInvalid, JournalStatements("pod-1", [resigned(head, KEY, ORIGIN, previous_head_hash=bytes([1]) * 32)])),
        (HeadInvalid, JournalStatements("pod-1", [resigned(second, KEY, ORIGIN, previous_head_hash=bytes(32))])),
        (HeadInvalid, JournalStatements("pod-1", [resigned(second, KEY, ORIGIN, number=2**63)])),
        (HeadInvalid, JournalStatements("pod-1", [], [replace(disposal, decisions=1)])),
        (HeadInvalid, JournalStatements("pod-1", [], [make_disposal(by_another_key, ORIGIN)])),
        (HeadInvalid, JournalStatements("pod-1", [], [make_disposal(KEY, ORIGIN, first_segment=3)])),
    ]
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        size = fleet.log.sequencer.head.size
        for error, statements in cases:
            with pytest.raises(error):
                await fleet.heads.record(statements)
        assert fleet.log.sequencer.head.size == size


async def test_disposals_are_logged_at_once_and_once(tmp_path: Path) -> None:
    disposals = [make_disposal(KEY, ORIGIN, last) for last in (2, 5)]
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        seq = await fleet.heads.record(JournalStatements("pod-1", [], [disposals[0], disposals[0]]))
        assert await fleet.heads.record(JournalStatements("pod-1", [], disposals[:1])) == seq
        assert await fleet.heads.record(JournalStatements("pod-1", [], disposals)) == seq + 1
    async with open_fleet(tmp_path) as fleet:
        assert await fleet.heads.record(JournalStatements("pod-1", [], disposals[:1])) == seq
        events = [parse_event(entry.event_bytes) for entry in await read_all(fleet.log.store)]
        kept = [event.disposals for event in events if isinstance(event, DisposalEvent)]
        assert kept == [(disposals[0],), (disposals[1],)]


async def test_heads_that_cannot_be_logged_are_answered_so_and_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = make_heads(KEY, ORIGIN, 2)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        with monkeypatch.context() as patched:
            fail_commits(fleet, patched)
            with pytest.raises(LogWriteFailed):
                await record(fleet, heads)
        assert await logged(fleet) == []
        await record(fleet, heads)
        assert await logged(fleet) == [[("pod-1", 0), ("pod-1", 1)]]


async def test_heads_of_a_key_that_was_replaced_meanwhile_are_not_logged(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        asked = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", make_heads(KEY, ORIGIN, 1))))
        await wait_for_waiting(fleet, 1)
        await fleet.enrol("pod-1", make_sidecar_key("pod-1", seed=1))
        await fleet.heads.flush()
        with pytest.raises(SidecarNotEnrolled):
            await asked
        assert await logged(fleet) == []


async def test_heads_of_a_caller_that_has_gone_are_logged_all_the_same(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 1)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        asked = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", heads)))
        await wait_for_waiting(fleet, 1)
        asked.cancel()
        await fleet.heads.flush()
        assert await logged(fleet) == [[("pod-1", 0)]]
        assert await fleet.heads.record(JournalStatements("pod-1", heads)) == fleet.log.sequencer.head.size


async def test_later_request_of_a_sidecar_takes_the_place_of_its_earlier_one(tmp_path: Path) -> None:
    heads = make_heads(KEY, ORIGIN, 2)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        earlier = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", heads[:1])))
        await wait_for_waiting(fleet, 1)
        later = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", heads)))
        with pytest.raises(Overloaded):
            await earlier
        await fleet.heads.flush()
        await later
        assert await logged(fleet) == [[("pod-1", 0), ("pod-1", 1)]]


async def test_many_heads_are_split_into_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_heads, "MAX_STATEMENTS", 3)
    async with open_fleet(tmp_path) as fleet:
        names = ("pod-1", "pod-2", "pod-3")
        for name in names:
            await fleet.enrol(name)
        asked = [
            asyncio.create_task(
                fleet.heads.record(JournalStatements(name, make_heads(make_sidecar_key(name), ORIGIN, 2)))
            )
            for name in names
        ]
        await wait_for_waiting(fleet, 3)
        await fleet.heads.flush()
        assert len(set(await asyncio.gather(*asked))) == 3
        assert [len(entry) for entry in await logged(fleet)] == [2, 2, 2]


async def test_feed_that_is_about_to_stop_lets_nobody_wait_for_others(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        asked = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", make_heads(KEY, ORIGIN, 1))))
        await wait_for_waiting(fleet, 1)
        fleet.heads.hurry()
        async with asyncio.timeout(10):
            assert await asked == fleet.log.sequencer.head.size


async def test_defect_in_the_feed_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")

        async def fail(*_: object) -> None:
            raise ZeroDivisionError

        asked = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", make_heads(KEY, ORIGIN, 1))))
        await wait_for_waiting(fleet, 1)
        with monkeypatch.context() as patched:
            patched.setattr(fleet.log.store, "find_journal_head", fail)
            with pytest.raises(ZeroDivisionError):
                await fleet.heads.flush()
        with pytest.raises(FeedError, match="nobody knows"):
            await asked


async def test_close_answers_who_still_waits(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        asked = asyncio.create_task(fleet.heads.record(JournalStatements("pod-1", make_heads(KEY, ORIGIN, 1))))
        await wait_for_waiting(fleet, 1)
        await fleet.heads.close()
        assert await asked == fleet.log.sequencer.head.size


def fail_commits(fleet: Fleet, patched: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise LogWriteFailed("full")

    patched.setattr(fleet.log.store, "commit", fail)
