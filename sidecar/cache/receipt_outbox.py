"""Acknowledgements that the log does not hold yet.

That one is owed is committed with its batch; what is signed follows with the next write. A crash in between costs no acknowledgement, only
its time: after the restart the debt is paid with an acknowledgement as of then, which is later and never earlier than the truth.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from consent import encoding as wire
from consent.event import RECEIPT
from consent.eventlog.acknowledgement import Receipt, verify_ack
from consent.eventlog.errors import InvalidAcknowledgement
from consent.eventlog.keys import KeyKind, generate_signing_key
from sidecar.cache.identity import CacheIdentity
from sidecar.cache.writer import Statement
from sidecar.ports import OutboxChange

MAX_RECEIPTS: Final = 1_000
"""A feed that never logs must not fill the disk. Beyond this the middle one is dropped: what it stood for is then proven by the next larger
one, whose time is later, while the oldest and the newest keep theirs."""

_KEEP: Final = "INSERT OR REPLACE INTO receipt_outbox VALUES (?, ?)"
_DROP: Final = "DELETE FROM receipt_outbox WHERE seq = ?"
_DROP_UP_TO: Final = "DELETE FROM receipt_outbox WHERE seq <= ?"
_OWED: Final = b""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxWriting:
    """Statements, and what holds once they are committed.

    Attributes:
        statements: For the transaction.
        confirmed_size: Nothing up to it is needed any more.
        owed_size: To be acknowledged, 0 for none.
        saved: Sizes whose acknowledgements are written.
        dropped: Sizes whose rows are deleted.
    """

    statements: list[Statement]
    confirmed_size: int
    owed_size: int
    saved: frozenset[int]
    dropped: frozenset[int]


class ReceiptOutbox:
    """What is owed, signed and not confirmed, in memory; the cache writes its statements."""

    def __init__(self) -> None:
        self._receipts: dict[int, Receipt] = {}
        self._owed: set[int] = set()
        self._unsaved: set[int] = set()
        self._to_drop: set[int] = set()

    @classmethod
    def load(cls, rows: Iterable[tuple[int, bytes]], identity: CacheIdentity, signing_seed: bytes) -> Self:
        """Take up the rows of a file; those that this sidecar's key has not signed are left out.

        Args:
            rows: (size, blob), by size.
            identity: Whose cache it is.
            signing_seed: Of its Ed25519 key.
        """
        outbox = cls()
        key = generate_signing_key(identity.sidecar_id, KeyKind.SIDECAR, signing_seed).verifier_key
        for size, blob in rows:
            if blob == _OWED:
                outbox._owed.add(size)
                continue
            try:
                receipt: Receipt = wire.read_whole(RECEIPT, blob)
                verify_ack(receipt, identity.origin, key.public_key)
                if (receipt.sidecar_id, receipt.size) != (identity.sidecar_id, size):
                    raise InvalidAcknowledgement("acknowledgement: not of its row")
            except (wire.Truncated, InvalidAcknowledgement):
                _log.warning("an acknowledgement in the cache is not this sidecar's; left out")
                outbox._to_drop.add(size)
            else:
                outbox._receipts[size] = receipt
        return outbox

    @property
    def is_owed(self) -> bool:
        """Whether something in force was never acknowledged."""
        return bool(self._owed)

    @property
    def is_unsaved(self) -> bool:
        """Whether the file lacks something."""
        return bool(self._unsaved or self._to_drop)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """By size."""
        return tuple(self._receipts[size] for size in sorted(self._receipts))

    def note(self, receipt: Receipt) -> None:
        """Keep an acknowledgement; what is owed for it and for everything before is paid with it."""
        paid = {size for size in self._owed if size <= receipt.size}
        self._owed -= paid
        self._to_drop |= paid - {receipt.size}
        self._receipts[receipt.size] = receipt
        self._unsaved.add(receipt.size)
        while len(self._receipts) > MAX_RECEIPTS:
            middle = sorted(self._receipts)[len(self._receipts) // 2]
            del self._receipts[middle]
            self._unsaved.discard(middle)
            self._to_drop.add(middle)

    def prepare(self, change: OutboxChange, size: int) -> OutboxWriting:
        """The statements that bring the file up to date, with a change that belongs to the same transaction.

        Args:
            change: What the batch changes.
            size: Of the log after it.
        """
        confirmed = change.confirmed_size
        saved = frozenset(kept for kept in self._unsaved if kept > confirmed)
        dropped = frozenset(self._to_drop)
        statements: list[Statement] = []
        if confirmed:
            statements.append((_DROP_UP_TO, [(confirmed,)]))
        if dropped:
            statements.append((_DROP, [(each,) for each in sorted(dropped)]))
        rows = [(kept, RECEIPT.write(self._receipts[kept])) for kept in sorted(saved)]
        rows += [(size, _OWED)] if change.owes_receipt else []
        if rows:
            statements.append((_KEEP, rows))
        return OutboxWriting(statements, confirmed, size if change.owes_receipt else 0, saved, dropped)

    def take(self, writing: OutboxWriting) -> None:
        """Note that a transaction was committed."""
        confirmed = writing.confirmed_size
        self._receipts = {size: receipt for size, receipt in self._receipts.items() if size > confirmed}
        self._owed = {size for size in self._owed if size > confirmed}
        self._owed |= {writing.owed_size} if writing.owed_size else set()
        self._unsaved = {size for size in self._unsaved - writing.saved if size > confirmed}
        self._to_drop -= writing.dropped
