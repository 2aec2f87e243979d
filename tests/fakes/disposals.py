"""A sidecar that disposes of segments in a world where every step can fail: what is logged, what is noted, what is gone."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from consent.eventlog.journal_head import JournalDisposal, JournalHead, parse_disposal, sign_disposal
from journal.format import FrameKind
from sidecar.errors import FeedUnavailable, JournalUnavailable
from sidecar.journal.disposal import Disposer
from sidecar.journal.position import POSITION_FILE_NAME, save_positions
from sidecar.journal.retention import RetentionPlanner, RetentionRule
from sidecar.journal.segment import sync_directory
from sidecar.ports import LoggedPlace
from tests.fakes.clock import FakeClock
from tests.fakes.journal_files import KEYS, MS_PER_DAY, ChainFiles
from tests.fakes.journal_heads import MemoryHeads
from tests.fakes.journal_material import NOW_MS
from tests.fakes.trails import make_sidecar_key

ORIGIN = "log.example/disposals"
STEPS = ("log", "note", "flush", "unlink", "fsync")


class CrashedError(Exception):
    """Stands for the end of the process."""


class DisposingSidecar:
    """A journal with segments of which some may go, and whatever disposes of them.

    Args:
        directory: Empty.
        lengths: Segments of each chain, one begun on each day.
        days: How long they are kept.

    Attributes:
        chains: In the order of `lengths`.
        logged: Disposals that the log holds.
        noted: Disposals that the journal holds.
        steps: What was done or tried, in order.
        fault: Called before and after each step, with its number from 0; it may raise.
    """

    def __init__(self, directory: Path, lengths: Sequence[int] = (4,), days: float = 1) -> None:
        self._directory = directory
        self.days = days
        self.clock = FakeClock(NOW_MS + 10 * MS_PER_DAY)
        self.key = make_sidecar_key("pod-1")
        self.heads = MemoryHeads()
        self.chains = [ChainFiles(directory, f"chain-{place}").add_days(count) for place, count in enumerate(lengths)]
        for chain, count in zip(self.chains, lengths, strict=True):
            self.heads.places[chain.chain_id] = LoggedPlace(1, count - 1, is_ended=False)
        positions = {chain.chain_id: chain.end_of(len(chain.paths) - 1) for chain in self.chains}
        save_positions(directory / POSITION_FILE_NAME, positions)
        self.logged: list[JournalDisposal] = []
        self.noted: list[JournalDisposal] = []
        self.steps: list[str] = []
        self.fault: Callable[[int, bool], None] = lambda *_: None
        self.is_writable = True
        self.disposed_decisions = 0
        self.start()

    def start(self) -> None:
        """A new process: it knows nothing but the files and the log."""
        self.clock.advance(1)
        self.disposer = Disposer(
            self._directory,
            RetentionPlanner(self._directory, KEYS, self.heads, RetentionRule(days=self.days)),
            self,
            self,
            lambda disposal: sign_disposal(disposal, self.key, ORIGIN),
            "pod-1",
            self.clock,
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For as long as this runs, what deletes files is a step too."""
        unlink = os.unlink

        def step_unlink(path: Any, *arguments: Any, **options: Any) -> None:
            if Path(path).parent != self._directory:
                unlink(path, *arguments, **options)
            else:
                self._do("unlink", lambda: unlink(path, *arguments, **options))

        with (
            patch.object(os, "unlink", step_unlink),
            patch(
                "sidecar.journal.disposal.sync_directory",
                lambda path: self._do("fsync", lambda: sync_directory(path)),
            ),
        ):
            yield

    async def record_journal_heads(self, heads: Sequence[JournalHead], disposals: Sequence[JournalDisposal]) -> int:
        def log() -> None:
            self.logged += [disposal for disposal in disposals if disposal not in self.logged]

        self._do("log", log)
        return len(self.logged)

    def note(self, kind: FrameKind, content: bytes) -> None:
        assert kind is FrameKind.DISPOSAL
        self._do("note", lambda: self.noted.append(parse_disposal(content)))

    def flush(self) -> None:
        self._do("flush", lambda: None)

    def note_disposed(self, chain_id: bytes, decisions: int) -> None:
        self.disposed_decisions += decisions

    def verify(self) -> None:
        """Nothing is gone that the log and the journal do not name, and what is left of a chain has no hole."""
        assert {each.chain_id for each in self.logged} >= {each.chain_id for each in self.noted}
        for chain in self.chains:
            assert chain.present == list(range(chain.present[0], len(chain.paths)))
            gone = set(range(len(chain.paths))) - set(chain.present)
            for words in (self.logged, self.noted):
                named = {
                    number
                    for word in words
                    if word.chain_id == chain.chain_id
                    for number in range(word.first_segment, word.last_segment + 1)
                }
                assert gone <= named
                assert max(named, default=-1) < len(chain.paths) - 1

    @property
    def is_done(self) -> bool:
        """Whether everything that may go is gone."""
        return all(chain.present == [len(chain.paths) - 1] for chain in self.chains)

    def _do(self, step: str, do: Callable[[], None]) -> None:
        number = len(self.steps)
        self.steps.append(step)
        self.fault(number, False)
        do()
        self.fault(number, True)


def error_of(step: str) -> Exception:
    """What a step fails with."""
    if step == "log":
        return FeedUnavailable("away")
    if step in {"note", "flush"}:
        return JournalUnavailable("journal: full")
    return OSError(errno.EIO, os.strerror(errno.EIO))
