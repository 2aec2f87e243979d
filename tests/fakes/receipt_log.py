"""A small log that signs for real, and receipts out of it; everything is decided by names and numbers, so that vectors repeat."""

import hashlib
from dataclasses import replace
from typing import Any

from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, ReceivedEvent, RejectedEvent, format_event
from consent.event import RestrictionEvent as Restriction
from consent.event import UnlinkEvent as Unlink
from consent.eventlog.checkpoint import Checkpoint, sign_checkpoint
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.eventlog.proof import inclusion_proof
from consent.receipt import Receipt, format_receipt

ORIGIN = "log.example.com/tenant-a"
LOG_KEY = generate_signing_key(ORIGIN, KeyKind.LOG, b"\x11" * 32)
COSIGNER_KEY = generate_signing_key("cosigner.example.com/c1", KeyKind.COSIGNER, b"\x22" * 32)
OTHER_KEY = generate_signing_key(ORIGIN, KeyKind.LOG, b"\x33" * 32)
COSIGNED_UNIX_SECONDS = 1_795_501_416
OCCURRED_AT_MS = 1_795_501_400_123
TOKEN = hashlib.sha256(b"token").digest()[:16]


def request_id(number: int) -> bytes:
    return hashlib.sha256(f"request {number}".encode()).digest()[:16]


def opening(number: int) -> bytes:
    return hashlib.sha256(f"opening {number}".encode()).digest()


def make_directive(number: int, **fields: Any) -> DirectiveEvent:
    values: dict[str, Any] = {
        "origin": ORIGIN,
        "source": "web",
        "request_id": request_id(number),
        "token": TOKEN,
        "kind": 2,
        "occurred_at_ms": OCCURRED_AT_MS,
        "purpose": "marketing.email",
        "proof": 1,
        "assurance": 1,
    }
    return DirectiveEvent(**(values | fields))


def make_events() -> list[Event]:
    """One RECEIVED, then every kind of outcome."""
    other = hashlib.sha256(b"other token").digest()[:16]
    common: dict[str, Any] = {"origin": ORIGIN, "source": "accounts"}
    return [
        ReceivedEvent(**common, request_id=request_id(2), received_at_ms=OCCURRED_AT_MS, request_type=1),
        make_directive(2),
        make_directive(3, kind=1, purpose="Ärzte-Info", proof=3, expires_at_ms=OCCURRED_AT_MS + 1, notice_version=4),
        LinkEvent(**common, request_id=request_id(4), left=TOKEN, right=other, proof=3, occurred_at_ms=OCCURRED_AT_MS),
        Unlink(**common, request_id=request_id(5), left=TOKEN, right=other, occurred_at_ms=OCCURRED_AT_MS),
        FactEvent(
            **common,
            request_id=request_id(6),
            token=TOKEN,
            age_band=2,
            proof=2,
            occurred_at_ms=OCCURRED_AT_MS,
            jurisdictions=("DE", "EU"),
        ),
        Restriction(
            **common, request_id=request_id(7), token=TOKEN, restricted=True, proof=0, occurred_at_ms=OCCURRED_AT_MS
        ),
        RejectedEvent(
            **common, request_id=request_id(8), rejected_at_ms=OCCURRED_AT_MS, rejection="SOURCE_NOT_PERMITTED"
        ),
    ]


class ReceiptLog:
    """The log of `make_events`, or of other events, at one size."""

    def __init__(self, events: list[Event] | None = None, origin: str = ORIGIN) -> None:
        self.events = [format_event(event) for event in events or make_events()]
        self.frontier = Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        for number, event_bytes in enumerate(self.events, start=1):
            leaf = hash_leaf(leaf_data(event_bytes[1], commit(opening(number), event_bytes)))
            self.nodes |= {(level, index): node_hash for level, index, node_hash in self.frontier.append(leaf)}
        self.checkpoint = Checkpoint(origin, self.frontier.size, self.frontier.root_hash())
        self.note = sign_checkpoint(self.checkpoint, LOG_KEY, COSIGNER_KEY, COSIGNED_UNIX_SECONDS)

    def receipt(self, seq: int, **changes: Any) -> Receipt:
        event_bytes = self.events[seq - 1]
        proof = inclusion_proof(seq - 1, self.checkpoint.size, lambda level, index: self.nodes[level, index])
        receipt = Receipt(event_bytes[1], opening(seq), event_bytes, seq - 1, proof, self.note)
        return replace(receipt, **changes)

    def receipt_bytes(self, seq: int, **changes: Any) -> bytes:
        return format_receipt(self.receipt(seq, **changes))
