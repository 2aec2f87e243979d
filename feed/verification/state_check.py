"""The folded state, computed again from the entries alone."""

from collections.abc import Callable
from typing import Final

from consent.event import ErasedEvent, Event, KeyEpochEvent, StateRootEvent
from consent.state import fold_event
from consent.state_record import StateHasher
from consent.tenant_state import EMPTY_TENANT, fold_tenant_event
from feed.errors import CorruptLog, FeedError
from feed.log_store.port import EMPTY_STATE_SUM, StoredHead
from feed.log_store.reader import LogReader
from feed.sequencer.state_changes import StateChanges, tokens_of
from feed.verification.findings import Finding, Reason


class StateNotFoldable(FeedError):
    """What the state roots commit to cannot be computed from the entries and the feed's kek alone. Expected after an erasure."""

    reason = "STATE_NOT_FOLDABLE"


_PAGE_EVENTS: Final = 1_000


def verify_state(reader: LogReader, head: StoredHead, progress: Callable[[int, int], None]) -> list[Finding]:
    """Fold every entry and compare with each state root in the log, and with the sum that is sealed with the head.

    The records of all subjects are held in memory meanwhile.

    Args:
        reader: A log whose entries were found in order.
        head: Its head.
        progress: Told how many entries are folded.

    Raises:
        StateNotFoldable: Somebody was erased, or a later key epoch has begun.
    """
    fold = _StateFold()
    for seq, entry in reader.entries(1, head.size):
        if isinstance(entry, CorruptLog):
            raise entry
        event = entry.load_event()
        if isinstance(event, ErasedEvent) or (isinstance(event, KeyEpochEvent) and event.epoch):
            raise StateNotFoldable(
                f"entry {seq}: from an erasure or a key epoch on, the state cannot be folded from the entries alone; verify without it"
            )
        fold.take(seq, event)
        if seq % _PAGE_EVENTS == 0:
            progress(seq, head.size)
    fold.flush()
    progress(head.size, head.size)
    if fold.state_sum != head.state_sum:
        fold.findings.append(Finding(Reason.STATE_MISMATCH, "the stored state is not the fold of the entries"))
    return fold.findings


class _StateFold:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.state_sum = EMPTY_STATE_SUM
        self._tenant = EMPTY_TENANT
        self._records: dict[bytes, bytes] = {}
        self._first_tokens: dict[bytes, bytes] = {}
        self._waiting: list[tuple[int, Event]] = []

    def take(self, seq: int, event: Event) -> None:
        if isinstance(event, StateRootEvent):
            self.flush()
            if event.state_root_hash != self._state_root():
                text = f"entry {seq}: the entries before it do not fold to its state root"
                self.findings.append(Finding(Reason.STATE_ROOT_MISMATCH, text, seq))
            return
        self._waiting.append((seq, event))
        if len(self._waiting) == _PAGE_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Fold what waits, page by page: few records need to be read and written then."""
        tokens = {token for _, event in self._waiting for token in tokens_of(event)}
        changes = StateChanges({token: record for token in tokens if (record := self._find(token)) is not None})
        for seq, event in self._waiting:
            changes.apply(fold_event(event, seq, changes.find, self._tenant.drop_seqs))
            self._tenant = fold_tenant_event(self._tenant, event, seq)
        self._waiting.clear()
        rows, self.state_sum = changes.finish(self.state_sum)
        for first_token in rows.removed:
            del self._records[first_token]
        for token in rows.removed_members:
            del self._first_tokens[token]
        self._records.update(rows.records)
        self._first_tokens.update(rows.members)

    def _find(self, token: bytes) -> bytes | None:
        return self._records.get(self._first_tokens.get(token, token))

    def _state_root(self) -> bytes:
        hasher = StateHasher()
        for first_token in sorted(self._records):
            hasher.add(first_token, self._records[first_token])
        return hasher.finish(self._tenant)
