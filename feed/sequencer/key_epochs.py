"""Key epochs: a new subject key, and everything that is known under the tokens that it makes."""

from dataclasses import dataclass

from consent.event import KeyEpochEvent
from consent.key_epoch import current_epoch
from feed.errors import KeyEpochConflict, SubjectKeyUnusable
from feed.log_store.port import LogStore, StoredHead
from feed.sequencer.lone import LoneChange
from feed.sequencer.sequencer import FEED_SOURCE, Sequencer
from feed.signing.subject_keys import SubjectKeys
from hosting.errors import HostingError


@dataclass(frozen=True, slots=True)
class EpochBegun:
    """A key epoch is in the log.

    Attributes:
        epoch: Its number.
        seq: Of its KEY_EPOCH; 0 where it had begun before.
        subject_count: Tokens that stand for people in it.
    """

    epoch: int
    seq: int
    subject_count: int


class KeyEpochs:
    """Begins key epochs. Requests wait meanwhile, and are logged in the new epoch.

    Args:
        sequencer: Where KEY_EPOCH is logged.
        store: Where the state is.
        subject_keys: The keys at hand.
        origin: Name of the log.
    """

    def __init__(self, sequencer: Sequencer, store: LogStore, subject_keys: SubjectKeys, origin: str) -> None:
        self._sequencer = sequencer
        self._store = store
        self._subject_keys = subject_keys
        self._origin = origin

    async def begin(self, epoch: int) -> EpochBegun:
        """Begin an epoch: its key, the state under its tokens, and KEY_EPOCH, the last two in one commit.

        Args:
            epoch: The one after the epoch that the log is in. Naming that one again changes nothing, so that an answer that was lost
                can be asked for anew.

        Raises:
            KeyEpochConflict: Another epoch would have to be the next.
            SubjectKeyUnusable: There is no key of the epoch, and none can be made; nothing changed.
            CorruptLog: The stored state is not the fold of the log.
            ShuttingDown, LogWriteFailed, OutcomeUnknown: As `Sequencer.append_alone`.
        """
        if epoch and epoch == current_epoch(self._sequencer.head.tenant):
            return EpochBegun(epoch, 0, await self._store.count_subjects())

        async def rekey(head: StoredHead) -> LoneChange:
            if epoch != current_epoch(head.tenant) + 1:
                raise KeyEpochConflict(f"epoch: the log is in epoch {current_epoch(head.tenant)}")
            # 1. The key, durable before the log commits to it. A crash from here on leaves a key that the next attempt takes.
            try:
                rekeyer = self._subject_keys.prepare(epoch)
            except HostingError as error:
                raise SubjectKeyUnusable(str(error)) from None
            # 2. The state, beside the one in force. A crash leaves rows that mean nothing.
            state_sum = await self._store.stage_rekeyed(head, rekeyer)
            # 3. Both take effect with the commit.
            commitment = self._subject_keys.commitment(epoch)
            event = KeyEpochEvent(origin=self._origin, source=FEED_SOURCE, epoch=epoch, key_commitment=commitment)
            return LoneChange((event,), staged_state_sum=state_sum)

        lone = await self._sequencer.append_alone(rekey)
        return EpochBegun(epoch, lone.entry.seq, await self._store.count_subjects())
