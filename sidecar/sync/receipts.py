"""What the sidecar acknowledges, signed, and what of it the log holds already."""

from collections.abc import Sequence

from consent.event import FIRST_INFORMATIVE_TYPE, ReceiptsEvent
from consent.eventlog.acknowledgement import Receipt, sign_ack, verify_ack
from consent.eventlog.errors import InvalidAcknowledgement
from hosting.clock import Clock
from sidecar.ports import Cache, LogHead, OutboxChange, VerifiedBatch
from sidecar.sync.enrolment import Enrolment


class Receipts:
    """Signs acknowledgements and keeps those of an enrolled sidecar until a RECEIPTS entry holds them.

    Args:
        cache: Keeps them.
        enrolment: Whose key signs.
        origin: Name of the log.
        clock: The time.
    """

    def __init__(self, cache: Cache, enrolment: Enrolment, origin: str, clock: Clock) -> None:
        self._cache = cache
        self._enrolment = enrolment
        self._origin = origin
        self._clock = clock

    def plan(self, batch: VerifiedBatch) -> OutboxChange:
        """What a batch changes about the outbox; to be committed with it."""
        owes = is_acknowledged(batch) and self._enrolment.is_enrolled_in(batch.head)
        return OutboxChange(owes, self._find_confirmed(batch))

    def plan_snapshot(self, head: LogHead) -> OutboxChange:
        """What a snapshot changes about the outbox."""
        return OutboxChange(self._enrolment.is_enrolled_in(head))

    def sign(self, head: LogHead) -> Receipt:
        """Acknowledge what is in force as of now; the log is to hold it, if it enrols this sidecar."""
        receipt = sign_ack(
            self._enrolment.key, self._origin, head.size, head.frontier.root_hash(), self._clock.now_ms()
        )
        if self._enrolment.is_enrolled_in(head):
            self._cache.note_receipt(receipt)
        return receipt

    def unconfirmed(self) -> Sequence[Receipt]:
        """What is to be sent anew on a new stream, debts of a crash paid."""
        if not self._enrolment.is_enrolled:
            return ()
        if self._cache.owes_receipt:
            # In force before the crash, perhaps; since this start, for certain.
            self.sign(self._cache.head)
        return self._cache.unconfirmed

    def _find_confirmed(self, batch: VerifiedBatch) -> int:
        """The largest own acknowledgement that the batch's RECEIPTS hold, 0 for none."""
        key = self._enrolment.key
        own = [
            receipt
            for logged in batch.events
            if isinstance(logged.event, ReceiptsEvent)
            for receipt in logged.event.receipts
            if receipt.sidecar_id == key.name
        ]
        for receipt in sorted(own, key=lambda each: each.size, reverse=True):
            try:
                verify_ack(receipt, self._origin, key.verifier_key.public_key)
            except InvalidAcknowledgement:
                # Of an earlier key, or of nobody: it proves nothing about what this key has signed.
                continue
            return receipt.size
        return 0


def is_acknowledged(batch: VerifiedBatch) -> bool:
    """Whether a batch is acknowledged: receipts about receipts would never end, so only what changes answers is."""
    return any(event.event_bytes[1] < FIRST_INFORMATIVE_TYPE for event in batch.events)
