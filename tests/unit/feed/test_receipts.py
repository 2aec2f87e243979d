"""Acknowledgements on their way into the log: checked, logged once, and never lost by a log that cannot write."""

from dataclasses import replace
from pathlib import Path

import pytest

from consent.trail import verify_trail
from feed import receipts
from feed.errors import AckRootMismatch, AckSignatureInvalid, EntryUnknown, InvalidRequest, LogWriteFailed
from feed.log_store.port import ReceiptPlace
from tests.fakes.feed_log import TRUST, verify_everything
from tests.fakes.fleet import Fleet, open_fleet
from tests.fakes.trails import make_sidecar_key


async def take(fleet: Fleet, name: str, *sizes: int) -> None:
    for size in sizes:
        await fleet.receipts.take(await fleet.sign(name, size))


async def test_receipts_are_logged_together_and_found_again(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        for name in ("pod-1", "pod-2"):
            await fleet.enrol(name)
        seq = await fleet.opt_out("ada")
        await take(fleet, "pod-1", seq - 1, seq)
        await take(fleet, "pod-2", seq)
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", seq - 1), ("pod-1", seq), ("pod-2", seq)]]
        assert await fleet.log.store.find_receipt("pod-1", 1, 0) == ReceiptPlace(seq - 1, seq + 1)
        assert await fleet.log.store.find_receipt("pod-1", 1, 0, newest=True) == ReceiptPlace(seq, seq + 1)
        assert await fleet.log.store.find_receipt("pod-1", seq + 1, 0) is None
        assert await fleet.log.store.find_receipt("pod-1", 1, seq + 1) is None
        await verify_everything(fleet.log.store)


async def test_receipts_that_are_logged_are_not_logged_again(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await fleet.opt_out("ada")
        await take(fleet, "pod-1", 4)
        await fleet.receipts.flush()
        await take(fleet, "pod-1", 4)
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", 4)]]
    async with open_fleet(tmp_path) as fleet:
        # An older one may have been lost by this process's end, and is no repetition.
        await take(fleet, "pod-1", 4, 3)
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", 4)], [("pod-1", 3)]]


async def test_receipts_nothing_to_log_makes_no_entry(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.receipts.flush()
        await take(fleet, "stranger", 1)
        await fleet.receipts.flush()
        assert fleet.log.sequencer.head.size == 1


async def test_take_refuses_what_is_not_the_sidecars_word_about_this_log(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        good = await fleet.sign("pod-1", 2)
        by_another = await fleet.sign("pod-1", 2, key=make_sidecar_key("pod-1", seed=1))
        refused = [
            (replace(good, size=3), InvalidRequest),
            (replace(good, applied_at_ms=-1), InvalidRequest),
            (replace(good, root_hash=bytes(32)), AckRootMismatch),
            (replace(good, applied_at_ms=4), AckSignatureInvalid),
            (replace(good, signature=b""), AckSignatureInvalid),
            (by_another, AckSignatureInvalid),
        ]
        for receipt, error in refused:
            with pytest.raises(error):
                await fleet.receipts.take(receipt)
        await fleet.receipts.flush()
        assert await fleet.logged() == []


async def test_receipts_that_cannot_be_logged_stay_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")

        async def fail(_: object) -> None:
            raise LogWriteFailed("full")

        await take(fleet, "pod-1", 2)
        with monkeypatch.context() as patched:
            patched.setattr(fleet.log.store, "commit", fail)
            await fleet.receipts.flush()
        assert await fleet.logged() == []
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", 2)]]


async def test_receipts_of_a_key_that_was_replaced_meanwhile_are_dropped(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await take(fleet, "pod-1", 2)
        await fleet.enrol("pod-1", make_sidecar_key("pod-1", seed=1))
        await fleet.receipts.flush()
        assert await fleet.logged() == []


async def test_receipts_of_a_flood_keep_the_first_and_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "MAX_RECEIPTS_PER_SIDECAR", 4)
    monkeypatch.setattr(receipts, "MAX_RECEIPTS_PER_ENTRY", 3)
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        for name in ("ada", "eve", "bob"):
            await fleet.opt_out(name)
        await take(fleet, "pod-1", 2, 3, 4, 5, 6, 7, 8)
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", 2), ("pod-1", 3), ("pod-1", 7)], [("pod-1", 8)]]


async def test_close_logs_what_waits(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        await take(fleet, "pod-1", 2)
    async with open_fleet(tmp_path) as fleet:
        assert await fleet.logged() == [[("pod-1", 2)]]


async def test_trail_proves_what_was_logged_and_names_who_lacks_it(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        for name in ("pod-1", "pod-2", "pod-3"):
            await fleet.enrol(name)
        seq = await fleet.opt_out("ada")
        later = await fleet.opt_out("eve")
        await take(fleet, "pod-2", seq - 1, later)
        await fleet.receipts.take(await fleet.sign("pod-1", seq, applied_at_ms=7))
        await fleet.receipts.flush()
        await fleet.desk.retire("pod-3", "administrator")
        trail, found = await fleet.trails.make(seq)
        verified = verify_trail(trail, TRUST)
        assert [(word.sidecar_id, word.size) for word in verified.sidecars] == [("pod-1", seq), ("pod-2", later)]
        assert (verified.in_force_everywhere_at_ms, verified.received_at_ms) == (7, 1_767_000_000_000)
        assert {name: receipt.size for name, receipt in found.items()} == {"pod-1": seq, "pod-2": later}
        # A request's RECEIVED leads to its outcome, and what nobody has acknowledged yet is said to lack.
        assert (await fleet.trails.make(seq - 1))[0] == trail
        newest = await fleet.opt_out("bob")
        assert verify_trail((await fleet.trails.make(newest))[0], TRUST).lacking == ("pod-1", "pod-2")
        for unknown in (0, fleet.log.sequencer.head.size + 1):
            with pytest.raises(EntryUnknown):
                await fleet.trails.make(unknown)


async def test_trail_of_a_sidecar_with_a_new_key_counts_the_new_key_alone(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.enrol("pod-1")
        seq = await fleet.opt_out("ada")
        await take(fleet, "pod-1", seq)
        await fleet.receipts.flush()
        key = make_sidecar_key("pod-1", seed=1)
        await fleet.enrol("pod-1", key)
        assert verify_trail((await fleet.trails.make(seq))[0], TRUST).lacking == ("pod-1",)
        size = fleet.log.sequencer.head.size
        await fleet.receipts.take(await fleet.sign("pod-1", size, key=key))
        await fleet.receipts.flush()
        assert verify_trail((await fleet.trails.make(seq))[0], TRUST).lacking == ()


async def test_trail_of_an_entry_without_a_request_has_no_time_of_receipt(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        verified = verify_trail((await fleet.trails.make(1))[0], TRUST)
        assert (verified.received_at_ms, verified.sidecars) == (None, ())
