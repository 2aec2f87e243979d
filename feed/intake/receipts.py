"""Receipts of requests, for the source that sent them: proof that the outcome is in the log."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from consent.event import parse_event
from consent.receipt import OUTCOME_TYPES, Receipt, format_receipt
from feed.errors import EntryUnknown
from feed.intake.sources import Source
from feed.log_store.port import LoggedRequest, RequestName
from feed.ports import Log
from feed.publish import logged_keys

_UNKNOWN = "no outcome of a request of this source is there"


class RequestIndex(Protocol):
    """Finds requests by their names (`feed.log_store.port.LogStore`)."""

    async def find_requests(self, names: Collection[RequestName]) -> Mapping[RequestName, LoggedRequest]:
        """Those of the requests that were logged before."""
        ...


class InclusionProofs(Protocol):
    """Where proofs come from (`feed.log_store.tree.LogTree`)."""

    async def inclusion_proof(self, seq: int, size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Audit path of an entry in the tree of that size, and that tree's root."""
        ...


class IssuedReceipt(NamedTuple):
    """A receipt, the place of the entry that it proves, and the reference of the request."""

    receipt_bytes: bytes
    seq: int
    request_id: bytes


class ReceiptIssuer:
    """Makes receipts out of what is committed; never of what is only accepted.

    Every method raises `CorruptLog` or `LogStoreError` where the log cannot be read.

    Args:
        log: For entries and the newest checkpoint.
        requests: For requests by their idempotency key.
        proofs: Out of the stored tree.
    """

    def __init__(self, log: Log, requests: RequestIndex, proofs: InclusionProofs) -> None:
        self._log = log
        self._requests = requests
        self._proofs = proofs

    async def issue(self, source: Source, seq: int) -> IssuedReceipt:
        """Prove an outcome by its place in the log.

        Args:
            source: Who asks; it gets receipts of its own requests only, and cannot tell another's from none.
            seq: Of the outcome, as the answer to the request had it.

        Raises:
            EntryUnknown: There is no such outcome, it is another source's, or its payload was erased.
        """
        # The checkpoint is for exactly this size, and entries are committed with it: what it does not cover yet does not exist.
        head = self._log.head
        if not 1 <= seq <= head.size:
            raise EntryUnknown(f"seq: {_UNKNOWN}")
        (entry,) = await self._log.read_entries(seq, 1)
        if entry.type_byte not in OUTCOME_TYPES or not entry.event_bytes:
            raise EntryUnknown(f"seq: {_UNKNOWN}")
        event = parse_event(entry.event_bytes)
        if event.source != source.name:
            raise EntryUnknown(f"seq: {_UNKNOWN}")
        proof, _ = await self._proofs.inclusion_proof(seq, head.size)
        receipt = Receipt(entry.type_byte, entry.opening, entry.event_bytes, seq - 1, proof, head.checkpoint_note)
        return IssuedReceipt(format_receipt(receipt), seq, event.request_id)

    async def issue_by_key(self, source: Source, idempotency_key: str) -> IssuedReceipt:
        """Prove the outcome of the request with this key: its acceptance if there is one, else its newest refusal.

        Raises:
            EntryUnknown: The source has sent no request with this key, or nothing has come of it yet.
        """
        names = [(source.name, key) for key in logged_keys(idempotency_key)]
        found = await self._requests.find_requests(names)
        if not found:
            raise EntryUnknown(f"idempotency_key: {_UNKNOWN}")
        # The bare key stands for what can no longer change; the others for refusals after which it may still pass.
        logged = found.get(names[0]) or max(found.values(), key=lambda request: request.accepted.seq)
        return await self.issue(source, logged.accepted.seq)
