"""The state of the log at any size, folded forward once from a copy of it.

The copy is not believed: its tree is built on the way, and the signed checkpoint says at the end whether it was the log.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from auditor.log_copy import CopiedEntry, LogCopy
from auditor.replay.errors import LogNotReplayable
from consent.errors import ConsentError
from consent.event import FIRST_INFORMATIVE_TYPE, ErasureEvent, EventType, KeyEpochEvent, parse_event
from consent.eventlog.errors import EventLogError
from consent.eventlog.merkle import Frontier
from consent.key_epoch import current_epoch, rekey_clusters
from consent.key_ring import KeyRing, commit_key
from consent.policy import Policy, PolicyError
from consent.state import UNKNOWN_SUBJECT, Cluster, SubjectView, fold_event
from consent.tenant_state import EMPTY_TENANT, TenantState, fold_tenant_event
from consent.vocabulary.subject import Rekeyer

_TENANT_TYPES: Final = frozenset({EventType.POLICY, EventType.KEY_EPOCH, EventType.ENROL, EventType.RETIRE})

OnBytes = Callable[[int], None]
"""Told how many bytes more were read."""


@dataclass(slots=True)
class Erasures:
    """Who was erased, and which entries were.

    Attributes:
        seq_of_entry: Seq of the ERASURE that names an entry, by the entry's seq.
        seq_of_token: By key epoch: seq of the last ERASURE that names a token of that epoch.
    """

    seq_of_entry: dict[int, int] = field(default_factory=dict)
    seq_of_token: dict[int, dict[bytes, int]] = field(default_factory=dict)

    def has_after(self, epoch: int) -> bool:
        """Whether somebody was erased in a later key epoch: no token of this epoch can be led there and recognised."""
        return any(later > epoch for later in self.seq_of_token)


def find_erasures(log: LogCopy) -> Erasures:
    """Look through a copy for its erasures; a replay must know of them before it comes to what they took away.

    Raises:
        LogNotReplayable: One of them cannot be read.
        MalformedLogCopy, FolderUnusable: The copy cannot be read.
    """
    found = Erasures()
    for entry in log.entries():
        if entry.type_byte == EventType.ERASURE and entry.event_bytes:
            try:
                event = parse_event(entry.event_bytes)
            except ConsentError as error:
                raise LogNotReplayable(f"entry {entry.seq}: {error.reason}: {error}") from None
            if isinstance(event, ErasureEvent):
                found.seq_of_entry.update(dict.fromkeys(event.seqs, entry.seq))
                found.seq_of_token.setdefault(event.key_epoch, {}).update(dict.fromkeys(event.tokens, entry.seq))
    return found


class LogFold:
    """Folds a copy of a log, entry by entry.

    Args:
        log: The copy.
        ring: Keys of the later key epochs; its first subject key is never used.
        erasures: In this log.
        on_bytes: Told of progress.

    Attributes:
        size: Entries folded.
        epoch: Key epoch at that size.
        tokens: Every token of the epoch that is known by now, and those that an erasure will name; grows at its end, and is a new list
            in a new epoch.
        policy: In force, None before the first.
        tenant: As the log says.
    """

    def __init__(self, log: LogCopy, ring: KeyRing, erasures: Erasures, on_bytes: OnBytes = lambda _: None) -> None:
        self.size = 0
        self.epoch = 0
        self.policy: Policy | None = None
        self.tenant: TenantState = EMPTY_TENANT
        self._entries = log.entries()
        self._ring = ring
        self._erasures = erasures
        self._on_bytes = on_bytes
        self._clusters: dict[bytes, Cluster] = {}
        self._frontier = Frontier()
        self._root: tuple[int, bytes] | None = None
        self.tokens: list[bytes] = list(self._later_erased())

    @property
    def root_hash(self) -> bytes:
        """Root of the log's tree at this size, 32 bytes."""
        if self._root is None or self._root[0] != self.size:
            self._root = self.size, self._frontier.root_hash()
        return self._root[1]

    def advance(self, size: int) -> bool:
        """Fold on to a size; returns whether the copy is that long.

        Raises:
            LogNotReplayable: An entry cannot be folded.
            MalformedLogCopy, FolderUnusable: The copy cannot be read.
        """
        while self.size < size:
            entry = next(self._entries, None)
            if entry is None:
                return False
            try:
                self._take(entry)
            except (ConsentError, EventLogError, PolicyError) as error:
                raise LogNotReplayable(f"entry {entry.seq}: {error.reason}: {error}") from None
        return True

    def view(self, token: bytes | None) -> SubjectView:
        """What a question about a token is decided on."""
        cluster = self._clusters.get(token) if token is not None else None
        return UNKNOWN_SUBJECT if cluster is None or token is None else cluster.view(token)

    def is_erased_later(self, token: bytes) -> bool:
        """Whether an ERASURE behind this size names a token of this epoch."""
        return self._erasures.seq_of_token.get(self.epoch, {}).get(token, 0) > self.size

    def is_entry_erased_later(self, seq: int) -> bool:
        """Whether an ERASURE behind this size took the payload of an entry before it."""
        return 0 < seq <= self.size < self._erasures.seq_of_entry.get(seq, 0)

    def has_erasures_in_later_epochs(self) -> bool:
        """Whether somebody of this epoch may have been erased under a token that cannot be recognised here."""
        return self._erasures.has_after(self.epoch)

    def _take(self, entry: CopiedEntry) -> None:
        self._frontier.append(entry.leaf_hash())
        self.size = entry.seq
        self._on_bytes(len(entry.event_bytes) + 64)
        if not entry.event_bytes or entry.event_bytes[1] >= FIRST_INFORMATIVE_TYPE:
            return
        event = parse_event(entry.event_bytes)
        if event.TYPE in _TENANT_TYPES:
            self.tenant = fold_tenant_event(self.tenant, event, entry.seq)
            if event.TYPE == EventType.POLICY:
                self.policy = self.tenant.load_policy()
            if isinstance(event, KeyEpochEvent) and event.epoch:
                self._begin_epoch(event)
            return
        changes = fold_event(event, entry.seq, self._clusters.get, self.tenant.drop_seqs)
        self.tokens.extend(token for token in changes if token not in self._clusters)
        self._clusters.update(changes)

    def _begin_epoch(self, event: KeyEpochEvent) -> None:
        keys = self._ring.subject_keys
        if event.epoch >= len(keys) or commit_key(keys[event.epoch]) != event.key_commitment:
            raise LogNotReplayable(f"entry {self.size}: the replay keys do not hold the key of epoch {event.epoch}")
        self.epoch = current_epoch(self.tenant)
        self._clusters = rekey_clusters(self._clusters, Rekeyer(keys[event.epoch]))
        self.tokens = [*self._clusters, *(token for token in self._later_erased() if token not in self._clusters)]

    def _later_erased(self) -> Iterator[bytes]:
        return iter(self._erasures.seq_of_token.get(self.epoch, {}))
