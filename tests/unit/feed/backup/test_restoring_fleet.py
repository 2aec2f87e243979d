"""After a restore the fleet is as it was: who is enrolled, who is retired, and every receipt can be found and proven."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consent.trail import verify_trail
from feed.alerts import Alert
from feed.backup.restoring import restore
from feed.errors import EnrolmentRefused, SidecarRetired
from feed.journal_heads import JournalStatements
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import ORIGIN, TRUST, OpenLog
from tests.fakes.fleet import Fleet, run_fleet
from tests.fakes.journal_heads import make_heads
from tests.fakes.kept_log import LogFolder
from tests.fakes.trails import make_sidecar_key


@asynccontextmanager
async def run(folder: LogFolder) -> AsyncIterator[Fleet]:
    async with folder.run() as log, run_fleet(OpenLog(log.store, log.sequencer, FakeClock(), log.key_epochs)) as fleet:
        yield fleet


async def make_log(folder: LogFolder) -> tuple[int, str]:
    """An opt-out with a backup before its receipts; returns its seq, and a token that is used up."""
    async with folder.run() as log, run_fleet(OpenLog(log.store, log.sequencer, FakeClock(), log.key_epochs)) as fleet:
        token = fleet.token("pod-3")
        for name in ("pod-1", "pod-2"):
            await fleet.enrol(name)
        await fleet.ask("pod-3", token)
        await fleet.desk.retire("pod-3", "ops")
        seq = await fleet.opt_out("ada")
        await fleet.receipts.take(await fleet.sign("pod-1", seq))
        await fleet.receipts.flush()
        await log.back_up(folder.directory / "backup")
        await fleet.receipts.take(await fleet.sign("pod-2", seq))
        await fleet.receipts.flush()
    return seq, token


async def test_restore_finds_receipts_and_enrolments_again(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    seq, token = await make_log(folder)
    shutil.rmtree(tmp_path / "log")

    await restore(folder.source(tmp_path / "backup"), tmp_path / "log", folder.place.marks.read())

    async with run(folder) as fleet:
        trail, _ = await fleet.trails.make(seq)
        proven = verify_trail(trail, TRUST)
        assert [(word.sidecar_id, word.size) for word in proven.sidecars] == [("pod-1", seq), ("pod-2", seq)]
        with pytest.raises(SidecarRetired):
            fleet.desk.verify_not_retired("pod-3")
        with pytest.raises(EnrolmentRefused):
            await fleet.ask("pod-3", token)
        await fleet.receipts.take(await fleet.sign("pod-2", seq))
        await fleet.receipts.flush()
        assert await fleet.logged() == [[("pod-1", seq)], [("pod-2", seq)]], "what the log has is not logged again"


async def test_restore_finds_heads_and_open_alerts_again(tmp_path: Path) -> None:
    folder, key = LogFolder(tmp_path), make_sidecar_key("pod-1")
    heads = make_heads(key, ORIGIN, 2)
    async with run(folder) as fleet:
        await fleet.enrol("pod-1")
        fleet.heads.hurry()
        await fleet.heads.record(JournalStatements("pod-1", heads[:1]))
        await fleet.alerts.record(Alert.JOURNAL_SILENT, "pod-1")
        await fleet.alerts.record(Alert.JOURNAL_SILENT, "pod-2")
        await fleet.alerts.record(Alert.JOURNAL_SILENT, "pod-2", is_over=True)
    shutil.rmtree(tmp_path / "log")

    await restore(folder.source(None), tmp_path / "log", folder.place.marks.read())

    async with run(folder) as fleet:
        size = fleet.log.sequencer.head.size
        fleet.heads.hurry()
        assert await fleet.heads.record(JournalStatements("pod-1", heads[:1])) == size - 3
        assert await fleet.heads.record(JournalStatements("pod-1", heads)) == size + 1
        assert [alert.about for alert in await fleet.log.store.load_open_alerts()] == ["pod-1"]
