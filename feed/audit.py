"""Puts a trail together: the entries that tell how one entry came to be in force, each with its proof against one checkpoint."""

from typing import Protocol

from consent.event import EventType, ReceiptsEvent, parse_event
from consent.eventlog.acknowledgement import Receipt
from consent.eventlog.merkle import OPENING_BYTES
from consent.tenant_state import EnrolledSidecar
from consent.trail import Trail, TrailEntry, TrailSidecar, first_receipt
from feed.errors import CorruptLog, EntryUnknown
from feed.log_store.port import LogStore
from feed.ports import FeedHead, Log, StoredEntry


class Proofs(Protocol):
    """Where proofs come from (`feed.log_store.tree.LogTree`)."""

    async def inclusion_proof(self, seq: int, size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Audit path of an entry in the tree of that size, and that tree's root."""
        ...

    async def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """That the one tree starts with the other."""
        ...


class TrailMaker:
    """Makes trails.

    Args:
        log: The entries.
        store: Finds the receipts.
        proofs: Out of the stored tree.
    """

    def __init__(self, log: Log, store: LogStore, proofs: Proofs) -> None:
        self._log = log
        self._store = store
        self._proofs = proofs

    async def make(self, seq: int) -> tuple[Trail, dict[str, Receipt]]:
        """The trail of an entry, or of the outcome of a request whose RECEIVED it is.

        Returns:
            The trail, and the receipt of each sidecar that has one.

        Raises:
            EntryUnknown: There is no such entry.
            CorruptLog: An entry or a tree node is damaged or gone.
        """
        gathering = _Gathering(self._log, self._store, self._proofs, self._log.head)
        return await gathering.run(seq)


class _Gathering:
    """One trail in the making; everything is proven against one head."""

    def __init__(self, log: Log, store: LogStore, proofs: Proofs, head: FeedHead) -> None:
        self._log = log
        self._store = store
        self._proofs = proofs
        self._head = head
        self._entries: dict[int, TrailEntry] = {}
        self._consistency: dict[int, tuple[bytes, ...]] = {}

    async def run(self, seq: int) -> tuple[Trail, dict[str, Receipt]]:
        entry = await self._read(seq)
        if entry.type_byte == EventType.RECEIVED:
            seq, entry = seq + 1, await self._read(seq + 1)
        await self._add(entry)
        if seq > 1:
            before = await self._read(seq - 1)
            if before.type_byte == EventType.RECEIVED:
                await self._add(before)
        sidecars, receipts = list[TrailSidecar](), dict[str, Receipt]()
        for enrolled in self._head.tenant.sidecars:
            sidecar, receipt = await self._find_word(enrolled, seq)
            sidecars.append(sidecar)
            if receipt is not None:
                receipts[enrolled.sidecar_id] = receipt
        entries = tuple(self._entries[number] for number in sorted(self._entries))
        return Trail(seq, self._head.checkpoint_note, entries, tuple(sidecars)), receipts

    async def _find_word(self, enrolled: EnrolledSidecar, seq: int) -> tuple[TrailSidecar, Receipt | None]:
        sidecar_id, enrol_seq = enrolled.sidecar_id, enrolled.enrolled_seq
        await self._add(await self._read(enrol_seq))
        place = await self._store.find_receipt(sidecar_id, seq, enrol_seq)
        if place is None or place.receipts_seq > self._head.size:
            return TrailSidecar(sidecar_id, enrol_seq), None
        logged = await self._read(place.receipts_seq)
        await self._add(logged)
        event = parse_event(logged.event_bytes)
        receipt = first_receipt(event, sidecar_id, seq) if isinstance(event, ReceiptsEvent) else None
        if receipt is None:
            raise CorruptLog("the index of receipts leads to an entry without the receipt")
        proof = await self._prove_prefix(receipt.size)
        return TrailSidecar(sidecar_id, enrol_seq, place.receipts_seq, proof), receipt

    async def _prove_prefix(self, size: int) -> tuple[bytes, ...]:
        if size not in self._consistency:
            self._consistency[size] = await self._proofs.consistency_proof(size, self._head.size)
        return self._consistency[size]

    async def _read(self, seq: int) -> StoredEntry:
        entries = await self._log.read_entries(seq, 1) if 1 <= seq <= self._head.size else []
        if not entries:
            raise EntryUnknown("seq: there is no such entry")
        return entries[0]

    async def _add(self, entry: StoredEntry) -> None:
        if entry.seq in self._entries:
            return
        path, _ = await self._proofs.inclusion_proof(entry.seq, self._head.size)
        opening = entry.opening[:OPENING_BYTES]
        self._entries[entry.seq] = TrailEntry(entry.seq, entry.type_byte, path, opening, entry.event_bytes)
