"""What happens when a sidecar holds more than the log: the intake stops, and stays stopped over a restart, until the entries are back."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from consent.eventlog.merkle import MAX_TREE_SIZE
from feed.errors import HighWaterUnreadable
from feed.log_store.high_water import Mark, MarkFile
from feed.log_store.tree import LogTree
from feed.sequencer import Sequencer

_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """Entries that a sidecar holds and the log does not, as the sidecar says.

    Attributes:
        first_seq: The first one.
        last_seq: The last one.
        sidecar_id: Which sidecar; empty where an earlier process was told.
    """

    first_seq: int
    last_seq: int
    sidecar_id: str = ""


class LossGuard:
    """Stops the intake while entries are known to be lost: a new entry at the number of a lost one would be a fork.

    The sidecar's word is enough. Its certificate says who it is, and a wrong word costs an operator's look at the status; a right one that
    is not believed costs opt-outs.

    Args:
        sequencer: What is stopped.
        file: Where the loss is kept for the next start.
        accepted: Where it is kept up to which size an operator has accepted a loss.
        proofs: Out of the stored tree.
    """

    def __init__(self, sequencer: Sequencer, file: MarkFile, accepted: MarkFile, proofs: LogTree) -> None:
        self._sequencer = sequencer
        self._file = file
        self._accepted_file = accepted
        self._accepted_size = 0
        self._proofs = proofs
        self._reported: Mark | None = None
        self._sidecar_id = ""

    @property
    def loss(self) -> Loss | None:
        """What is lost as far as is known; None while the intake is open."""
        if self._reported is None:
            return None
        size = self._sequencer.head.size
        # Where the log was restored to another history of that size, nobody knows where they part.
        return Loss(min(size + 1, self._reported.size), self._reported.size, self._sidecar_id)

    async def load(self) -> None:
        """Take up what an earlier process was told, and forget it where the log holds those entries again.

        Raises:
            HighWaterUnreadable: What was kept cannot be believed, or cannot be removed.
            CorruptLog: The stored tree is damaged.
        """
        accepted = await asyncio.to_thread(self._accepted_file.read)
        self._accepted_size = accepted.size if accepted is not None else 0
        reported = await asyncio.to_thread(self._file.read)
        if reported is None or reported.size <= self._accepted_size:
            return
        size = self._sequencer.head.size
        if reported.size <= size and await self._proofs.root_hash(reported.size) == reported.root_hash:
            await asyncio.to_thread(self._file.remove)
            _LOGGER.warning("the entries that a sidecar held and this log had lost are back")
            return
        self._stop(reported, "")

    async def report(self, sidecar_id: str, size: int, root_hash: bytes) -> None:
        """A sidecar holds `size` entries, more than the log."""
        if size <= self._accepted_size or (self._reported is not None and size <= self._reported.size):
            return
        reported = Mark(min(size, MAX_TREE_SIZE), root_hash)
        self._stop(reported, sidecar_id)
        try:
            await asyncio.to_thread(self._file.write, reported)
        except HighWaterUnreadable as error:
            # The sidecar says it again to the next process.
            _LOGGER.error("the loss cannot be kept for the next start: %s", error)

    async def resume(self) -> None:
        """Open the intake by an operator's word, although entries are lost: sidecars that hold them stay refused.

        Without effect where it is open.

        Raises:
            HighWaterUnreadable: It cannot be kept for the next start; the intake stays stopped.
        """
        if self._reported is None:
            return
        await asyncio.to_thread(self._accepted_file.write, self._reported)
        self._accepted_size = self._reported.size
        self._reported, self._sidecar_id = None, ""
        self._sequencer.resume_intake()
        _LOGGER.warning("the intake was opened by an operator")

    def _stop(self, reported: Mark, sidecar_id: str) -> None:
        self._reported, self._sidecar_id = reported, sidecar_id
        loss = self.loss
        if loss is not None:
            text = (
                f"a sidecar holds entries {loss.first_seq} to {loss.last_seq}, which this log has lost: nothing is logged before they "
                "are restored or an operator resumes the intake"
            )
            self._sequencer.stop_intake(text)
            fields = {"sidecar_id": sidecar_id, "first_lost_seq": loss.first_seq, "last_lost_seq": loss.last_seq}
            _LOGGER.error("the intake is stopped: entries are lost", extra={"fields": fields})
