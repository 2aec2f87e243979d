"""Erasure of a person: an ERASURE in the log, and with it the payload of every entry that is about nobody else.

An entry is kept, sealed as before, where somebody else's record may rest on it: a person that was once linked to others and separated
again has left them copies of denials and facts (UNLINK), and what they rest on must stay replayable. So nothing is taken away up to the
last entry that names one of the person's tokens together with a token that is not theirs, an earlier ERASURE included.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from consent.event import ErasureEvent, Event, EventType, ReceivedEvent, parse_event
from consent.key_epoch import current_epoch
from consent.state import Cluster
from consent.tenant_state import TenantState
from feed.log_store.port import LogStore, StoredHead
from feed.ports import StoredEntry
from feed.publish import Publisher
from feed.sequencer import LoneChange, Sequencer
from feed.sequencer.state_changes import tokens_of
from feed.signing.subject_keys import SubjectKeys

#: An event of this many seqs still fits the largest event.
MAX_ERASED_ENTRIES: Final = 400_000
_PAGE_ENTRIES: Final = 1_000
_SCANNED_TYPES: Final = frozenset(
    {
        EventType.DIRECTIVE,
        EventType.LINK,
        EventType.UNLINK,
        EventType.FACT,
        EventType.RESTRICTION,
        EventType.OVERRIDE,
        EventType.ERASURE,
    }
)


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of a request for erasure.

    Attributes:
        request_id: Its reference, 16 bytes; empty where the person had been erased before.
        seq: Of the ERASURE that holds.
        token_count: Tokens of the person that it names.
        erased_count: Entries that lost their payload.
        kept_count: Entries of the person that keep it, because others' records may rest on them.
    """

    request_id: bytes
    seq: int
    token_count: int
    erased_count: int
    kept_count: int


class Eraser:
    """Erases people. Entries are found by reading the log: that costs time when it is done, and nothing at each commit.

    Args:
        sequencer: Where ERASURE is logged.
        store: Where the entries are.
        subject_keys: Lead tokens of older key epochs to the log's.
        publisher: Stamps what is logged.
        on_erased: Called after each erasure, to let go of copies.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        store: LogStore,
        subject_keys: SubjectKeys,
        publisher: Publisher,
        on_erased: Callable[[], None],
    ) -> None:
        self._sequencer = sequencer
        self._store = store
        self._subject_keys = subject_keys
        self._publisher = publisher
        self._on_erased = on_erased

    async def erase(self, token: bytes, source: str) -> Erased:
        """Erase the person of a token: everybody that is linked to it.

        Erasing again changes nothing, so that an answer that was lost can be asked for anew. When this returns, no byte of what was
        taken away is left in the database or its write-ahead log.

        Args:
            token: Of key epoch 0.
            source: Who asks for it.

        Raises:
            CorruptLog: An entry is damaged.
            ShuttingDown, LogWriteFailed, OutcomeUnknown: As `Sequencer.append_alone`; LogWriteFailed also where it is logged and an
                older copy may still be in the write-ahead log, which the next attempt clears.
        """
        # 1. Most of the log is read before its turn, so that requests need not wait.
        scan = await self._scan(token, None, self._sequencer.head.size)
        before = await self._find_erasure(scan)
        if before is None:
            made: list[tuple[_Scan, ErasureEvent]] = []
            # 2. What came since, and the entry itself, with nothing in between.
            lone = await self._sequencer.append_alone(lambda head: self._make(token, source, scan, head, made))
            (final, event) = made[-1]
            erased = Erased(
                event.request_id,
                lone.entry.seq,
                len(event.tokens),
                len(event.seqs),
                final.found_count - len(event.seqs),
            )
        else:
            erased = Erased(b"", before, len(scan.tokens), 0, scan.found_count)
        # 3. Copies. A crash before this leaves them to the next start or erasure, sealed.
        self._on_erased()
        await self._store.settle()
        return erased

    async def _make(
        self, token: bytes, source: str, scan: "_Scan", head: StoredHead, made: "list[tuple[_Scan, ErasureEvent]]"
    ) -> LoneChange:
        scan = await self._scan(token, scan, head.size)
        arrival = self._publisher.receive(EventType.ERASURE, source)
        erased = scan.erasable()
        event = ErasureEvent(
            **arrival.stamp(current_epoch(head.tenant)),
            tokens=tuple(sorted(scan.tokens)),
            seqs=tuple(entry.seq for entry in erased),
            occurred_at_ms=arrival.received_at_ms,
        )
        received = ReceivedEvent(
            **arrival.stamp(), received_at_ms=arrival.received_at_ms, request_type=EventType.ERASURE
        )
        made.append((scan, event))
        return LoneChange((received, event), erased=erased)

    async def _scan(self, token: bytes, scan: "_Scan | None", until: int) -> "_Scan":
        """Read on to `until`, or all of it anew where the person's tokens have changed since."""
        tenant = self._sequencer.head.tenant
        led = self._subject_keys.lead_token(token, tenant)
        cluster = await self._sequencer.find_cluster(token)
        tokens = frozenset(member.token for member in cluster.members) if cluster is not None else frozenset({led})
        if scan is None or (scan.tokens, scan.epoch) != (tokens, current_epoch(tenant)):
            scan = _Scan(tokens, cluster, self._subject_keys, tenant)
        while scan.size < until:
            page = await self._store.read_entries(scan.size + 1, min(_PAGE_ENTRIES, until - scan.size))
            await asyncio.to_thread(scan.take, page)
        return scan

    async def _find_erasure(self, scan: "_Scan") -> int | None:
        """Seq of the ERASURE that has left nothing to be erased; None where there is something, or never was one."""
        if scan.erasable() or scan.cluster is None or len(scan.cluster.members) != 1:
            return None
        (member,) = scan.cluster.members
        if len(member.directives) != 1 or member.restricted_seq:
            return None
        entries = await self._store.read_entries(member.directives[0].seq, 1)
        return entries[0].seq if entries and entries[0].type_byte == EventType.ERASURE else None


class _Scan:
    """What the log holds about a person, as far as it was read.

    Attributes:
        tokens: The person's, in the epoch that the log is in.
        cluster: Its record.
        epoch: That epoch.
        size: Entries read.
        found_count: Entries about the person that have a payload.
    """

    def __init__(
        self, tokens: frozenset[bytes], cluster: Cluster | None, subject_keys: SubjectKeys, tenant: TenantState
    ) -> None:
        self.tokens = tokens
        self.cluster = cluster
        self.epoch = current_epoch(tenant)
        self.size = 0
        self.found_count = 0
        self._subject_keys = subject_keys
        self._tenant = tenant
        self._own: list[StoredEntry] = []
        self._last_shared_seq = 0
        self._received: StoredEntry | None = None

    def take(self, page: Sequence[StoredEntry]) -> None:
        """Read the entries that follow."""
        for entry in page:
            self.size = entry.seq
            if entry.type_byte in _SCANNED_TYPES and entry.event_bytes:
                self._take_personal(entry, parse_event(entry.event_bytes))
            self._received = entry if entry.type_byte == EventType.RECEIVED and entry.event_bytes else None

    def erasable(self) -> list[StoredEntry]:
        """Those that lose their payload, in order."""
        return [entry for entry in self._own if entry.seq > self._last_shared_seq][:MAX_ERASED_ENTRIES]

    def _take_personal(self, entry: StoredEntry, event: Event) -> None:
        tokens = {self._subject_keys.lead_token(token, self._tenant, event.key_epoch) for token in tokens_of(event)}
        if self.tokens.isdisjoint(tokens):
            return
        if not self.tokens.issuperset(tokens):
            self._last_shared_seq = entry.seq
            self.found_count += not isinstance(event, ErasureEvent)
            return
        if isinstance(event, ErasureEvent):
            return
        # The request's RECEIVED tells when this person asked for something.
        received = self._received
        if received is not None and any(event.request_id) and _is_of_request(received, event.request_id):
            self._own.append(received)
            self.found_count += 1
        self._own.append(entry)
        self.found_count += 1


def _is_of_request(received: StoredEntry, request_id: bytes) -> bool:
    return parse_event(received.event_bytes).request_id == request_id
