"""A feed's log with everything that keeps it from being lost: archive, high-water mark, backups."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from feed.backup.files import write_pieces_from
from feed.backup.mark_keeping import MarkKeeper
from feed.backup.opening import LogPlace, open_log
from feed.backup.restoring import RestoreSource
from feed.backup.writing import write_backup
from feed.erasure import Eraser
from feed.log_store.high_water import MarkFile
from feed.log_store.sqlite import SqliteLog
from feed.publish import Publisher
from feed.sequencer import KeyEpochs, Sequencer
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import IDENTITY, KEYS, ORIGIN, SUBJECT_KEYS, make_sequencer


@dataclass(frozen=True)
class KeptLog:
    """A log that runs.

    Attributes:
        store: Its database, with the archive attached.
        sequencer: The log itself.
        mark: Keeps its mark.
    """

    store: SqliteLog
    sequencer: Sequencer
    mark: MarkKeeper

    @property
    def key_epochs(self) -> KeyEpochs:
        """Begins key epochs."""
        return KeyEpochs(self.sequencer, self.store, SubjectKeys(SUBJECT_KEYS), ORIGIN)

    @property
    def eraser(self) -> Eraser:
        """Erases people."""
        publisher = Publisher(self.sequencer, FakeClock(), ORIGIN)
        return Eraser(self.sequencer, self.store, SubjectKeys(SUBJECT_KEYS), publisher, lambda: None)

    async def back_up(self, path: Path) -> int:
        """Writes a backup and returns how many entries it has."""
        pieces = write_backup(self.store, self.sequencer.head, IDENTITY, KEYS.kek)
        return await write_pieces_from(path, pieces, lambda _: None)


@dataclass(frozen=True)
class LogFolder:
    """Where everything lies.

    Attributes:
        directory: The folder.
        has_archive: Whether there is a second disk.
    """

    directory: Path
    has_archive: bool = True

    @property
    def place(self) -> LogPlace:
        """As the settings of a feed would say it."""
        context, marks = IDENTITY.key_context, self.directory / "marks"
        return LogPlace(
            directory=self.directory / "log",
            archive_directory=self.directory / "archive" if self.has_archive else None,
            marks=MarkFile(marks / "mark", KEYS.kek, context),
            losses=MarkFile(marks / "lost", KEYS.kek, context, "reported-loss"),
            accepted_losses=MarkFile(marks / "accepted", KEYS.kek, context, "accepted-loss"),
            identity=IDENTITY,
            kek=KEYS.kek,
            subject_keys=SubjectKeys(SUBJECT_KEYS),
        )

    def source(self, backup: Path | None = None, *, archive: bool = True) -> RestoreSource:
        """What a restore reads."""
        return RestoreSource(
            backup, self.directory / "archive" if archive else None, IDENTITY, KEYS.kek, SubjectKeys(SUBJECT_KEYS)
        )

    def save(self, name: str) -> None:
        """Keeps a copy of the database, as a snapshot of its volume would."""
        shutil.copytree(self.directory / "log", self.directory / name)

    def put_back(self, name: str) -> None:
        """Puts the copy in the place of the database."""
        shutil.rmtree(self.directory / "log")
        shutil.copytree(self.directory / name, self.directory / "log")

    @asynccontextmanager
    async def run(self) -> AsyncIterator[KeptLog]:
        """Runs the log as the feed does; the mark is written at the end only, unless `mark` is started."""
        opened = await open_log(self.place)
        try:
            sequencer = make_sequencer(opened.store, FakeClock())
            mark = MarkKeeper(self.place.marks, lambda: sequencer.head)
            try:
                await sequencer.start()
                yield KeptLog(opened.store, sequencer, mark)
            finally:
                await sequencer.close()
                await mark.close()
        finally:
            await opened.close()
