"""Disposing of segments: said in the log first, then in the journal, then done."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consent.eventlog.journal_head import DisposalGround, JournalDisposal, format_disposal
from hosting.clock import Clock
from journal.format import FrameKind, format_segment_name
from sidecar.errors import JournalUnavailable, RefusedHead, SidecarError
from sidecar.journal.retention import Disposable, RetentionPlanner
from sidecar.journal.segment import sync_directory
from sidecar.ports import JournalNotes, JournalRecorder

FIRST_PASS_SECONDS: Final = 60.0
"""A sidecar that never runs for as long as the period disposes of segments too."""

_LOGGER: Final = logging.getLogger(__name__)

Sign = Callable[[JournalDisposal], JournalDisposal | None]
"""Signs a disposal; None while nothing that this sidecar signs counts."""


@dataclass(eq=False, slots=True)
class _Begun:
    """A disposal under way: an attempt after a failure goes on where the last one stopped."""

    disposal: JournalDisposal
    size_bytes: int
    is_logged: bool = False
    is_noted: bool = False


class Disposer:
    """Disposes of segments in passes.

    A segment goes only once the log holds the disposal that names it, so while the feed is away, or refuses, everything stays. A crash
    leaves everything or less than the disposal says, never a hole; the next pass goes on, with a disposal of what is left.

    Args:
        directory: The journal's.
        planner: Finds what may go.
        recorder: Logs disposals.
        journal: Notes them; backlogs are told.
        sign: Signs them.
        sidecar_id: Whose journal it is.
        clock: The time.
        check_seconds: Pause between two passes.
    """

    def __init__(
        self,
        directory: Path,
        planner: RetentionPlanner,
        recorder: JournalRecorder,
        journal: JournalNotes,
        sign: Sign,
        sidecar_id: str,
        clock: Clock,
        check_seconds: float = 3600.0,
    ) -> None:
        self._directory = directory
        self._planner = planner
        self._recorder = recorder
        self._journal = journal
        self._sign = sign
        self._sidecar_id = sidecar_id
        self._clock = clock
        self._check_seconds = check_seconds
        self._begun: list[_Begun] = []

    async def run(self) -> None:
        """Make passes until cancelled; what fails is tried again with the next one."""
        pause_seconds = min(self._check_seconds, FIRST_PASS_SECONDS)
        while True:
            await asyncio.sleep(pause_seconds)
            pause_seconds = self._check_seconds
            try:
                await self.make_pass()
            except SidecarError as error:
                fields = {"reason": error.reason}
                _LOGGER.warning("segments of the journal are not disposed of now", extra={"fields": fields})
            except OSError as error:
                fields = {"cause": error.strerror or type(error).__name__}
                _LOGGER.error("segments of the journal cannot be disposed of", extra={"fields": fields})
            except Exception as error:  # noqa: BLE001 - a defect here may not end the sidecar
                fields = {"type": type(error).__name__}
                _LOGGER.error("disposing of segments failed unexpectedly", extra={"fields": fields})

    async def make_pass(self) -> None:
        """Finish what was begun, then dispose of what may go now.

        Raises:
            SidecarError: It cannot be logged or noted; nothing of that disposal was deleted.
            OSError: The directory cannot be read or written; whatever is left stays for the next pass.
        """
        for begun in tuple(self._begun):
            await self._go_on(begun)
        for planned in await asyncio.to_thread(self._planner.plan, self._clock.now_ms()):
            disposal = self._sign(self._word(planned))
            if disposal is None:
                return
            begun = _Begun(disposal, planned.size_bytes)
            self._begun.append(begun)
            await self._go_on(begun)

    async def _go_on(self, begun: _Begun) -> None:
        if not begun.is_logged:
            try:
                # The same bytes again where nobody knows whether they were logged: the feed knows them then.
                await self._recorder.record_journal_heads((), (begun.disposal,))
            except RefusedHead:
                self._begun.remove(begun)
                raise
            begun.is_logged = True
        await asyncio.to_thread(self._carry_out, begun)
        self._begun.remove(begun)

    def _carry_out(self, begun: _Begun) -> None:
        disposal = begun.disposal
        if not begun.is_noted:
            self._journal.note(FrameKind.DISPOSAL, format_disposal(disposal))
            self._journal.flush()
            if not self._journal.is_writable:
                raise JournalUnavailable("journal: the note of a disposal may not be on the disk")
            begun.is_noted = True
        for number in range(disposal.first_segment, disposal.last_segment + 1):
            (self._directory / format_segment_name(disposal.chain_id, number)).unlink(missing_ok=True)
            # One by one: a power cut must not bring back a segment without the ones behind it.
            sync_directory(self._directory)
        self._journal.note_disposed(disposal.chain_id, disposal.decisions)
        fields = {
            "chain": disposal.chain_id.hex(),
            "segments": disposal.last_segment - disposal.first_segment + 1,
            "bytes": begun.size_bytes,
            "decisions": disposal.decisions,
            "ground": DisposalGround(disposal.ground).name,
        }
        _LOGGER.info("segments of the journal were disposed of", extra={"fields": fields})

    def _word(self, planned: Disposable) -> JournalDisposal:
        return JournalDisposal(
            sidecar_id=self._sidecar_id,
            chain_id=planned.chain_id,
            first_segment=planned.first,
            last_segment=planned.last,
            chain_hash=planned.chain_hash,
            decisions=planned.decisions,
            oldest_ms=planned.oldest_ms,
            newest_ms=planned.newest_ms,
            ground=planned.ground,
            disposed_at_ms=self._clock.now_ms(),
        )
