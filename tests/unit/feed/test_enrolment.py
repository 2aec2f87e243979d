"""The desk: whose key counts, by what right, and that the log alone remembers it."""

from pathlib import Path

import pytest

from consent.eventlog.errors import InvalidPossession
from feed import enrolment
from feed.errors import EnrolmentRefused, LogWriteFailed, SidecarRetired, SidecarUnknown
from feed.log_store.port import EnrolmentChange
from tests.fakes.feed_log import ORIGIN, verify_everything
from tests.fakes.fleet import open_fleet
from tests.fakes.trails import make_sidecar_key


async def test_enrol_with_a_token_is_logged_once(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        token = fleet.token("pod-1")
        assert await fleet.ask("pod-1", token) == 2
        assert await fleet.ask("pod-1", token) == 2
        assert await fleet.ask("pod-1") == 2
        enrolled = fleet.desk.find("pod-1")
        assert enrolled is not None
        assert enrolled.public_key == make_sidecar_key("pod-1").verifier_key.public_key
        assert len(await verify_everything(fleet.log.store)) == 2


async def test_enrol_another_key_needs_another_token(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        token, other = fleet.token("pod-1"), make_sidecar_key("pod-1", seed=1)
        await fleet.ask("pod-1", token)
        with pytest.raises(EnrolmentRefused, match="used up"):
            await fleet.ask("pod-1", token, other)
        assert await fleet.ask("pod-1", "", other) is None
        assert await fleet.ask("pod-1", fleet.token("pod-1"), other) == 3
        enrolled = fleet.desk.find("pod-1")
        assert enrolled is not None
        assert enrolled.public_key == other.verifier_key.public_key


async def test_enrol_without_a_token_waits_for_approval(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        assert await fleet.ask("pod-1") is None
        (asked,) = fleet.desk.pending
        assert (asked.sidecar_id, asked.key_id) == ("pod-1", make_sidecar_key("pod-1").key_id)
        assert fleet.desk.find("pod-1") is None
        assert await fleet.desk.approve("pod-1", asked.key_id, "administrator") == 2
        assert fleet.desk.pending == ()
        assert await fleet.ask("pod-1") == 2


async def test_approve_looks_at_the_key_that_the_operator_has_looked_at(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.ask("pod-1")
        seen = fleet.desk.pending[0].key_id
        await fleet.ask("pod-1", key=make_sidecar_key("pod-1", seed=1))
        for name, key_id in (("pod-1", seen), ("pod-2", b"")):
            with pytest.raises(SidecarUnknown):
                await fleet.desk.approve(name, key_id, "administrator")
        assert fleet.log.sequencer.head.size == 1


async def test_enrol_with_a_token_that_is_refused_can_still_be_approved(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        with pytest.raises(EnrolmentRefused):
            await fleet.ask("pod-1", fleet.token("pod-2"))
        assert await fleet.desk.approve("pod-1", b"", "administrator") == 2


async def test_enrol_without_possession_of_the_key_is_refused(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        public_key = make_sidecar_key("pod-1").verifier_key.public_key
        with pytest.raises(InvalidPossession):
            await fleet.desk.enrol("pod-1", public_key, bytes(64), fleet.token("pod-1"))
        assert (fleet.desk.pending, fleet.log.sequencer.head.size) == ((), 1)


async def test_retire_cuts_a_sidecar_off_until_it_is_enrolled_anew(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        old_token = fleet.token("pod-1")
        fleet.desk.verify_not_retired("pod-1")
        await fleet.ask("pod-1", old_token)
        assert await fleet.desk.retire("pod-1", "administrator") == 3
        with pytest.raises(SidecarRetired):
            fleet.desk.verify_not_retired("pod-1")
        with pytest.raises(EnrolmentRefused, match="used up"):
            await fleet.ask("pod-1", old_token)
        with pytest.raises(SidecarUnknown):
            await fleet.desk.retire("pod-1", "administrator")
    async with open_fleet(tmp_path) as fleet:
        with pytest.raises(SidecarRetired):
            fleet.desk.verify_not_retired("pod-1")
        assert fleet.desk.find_change("pod-1") == EnrolmentChange("pod-1", 3, is_retired=True)
        with pytest.raises(EnrolmentRefused, match="used up"):
            await fleet.ask("pod-1", old_token)
        assert await fleet.enrol("pod-1") == 4
        fleet.desk.verify_not_retired("pod-1")


async def test_enrol_that_the_log_cannot_keep_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_fleet(tmp_path) as fleet:

        async def fail(_: object) -> None:
            raise LogWriteFailed("full")

        token = fleet.token("pod-1")
        with monkeypatch.context() as patched:
            patched.setattr(fleet.log.store, "commit", fail)
            with pytest.raises(LogWriteFailed):
                await fleet.ask("pod-1", token)
        assert fleet.desk.find("pod-1") is None
        assert await fleet.ask("pod-1", token) == 2


async def test_pending_enrolments_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "MAX_PENDING", 2)
    async with open_fleet(tmp_path) as fleet:
        for name in ("pod-1", "pod-2", "pod-3"):
            await fleet.ask(name)
        assert [asked.sidecar_id for asked in fleet.desk.pending] == ["pod-2", "pod-3"]


async def test_issued_token_is_good_for_as_long_as_it_says(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        token, expires_at_ms = fleet.desk.issue_token("pod-1", 1_000)
        assert expires_at_ms == fleet.log.clock.now_ms() + 1_000
        fleet.log.clock.advance(1_000)
        with pytest.raises(EnrolmentRefused, match="expired"):
            await fleet.ask("pod-1", token)
        assert ORIGIN not in token
