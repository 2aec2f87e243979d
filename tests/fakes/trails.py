"""A log with sidecars that sign for real, and the trail of one of its entries."""

from dataclasses import dataclass, field

from consent.event import EnrolEvent, Event, ReceiptsEvent, ReceivedEvent
from consent.eventlog.acknowledgement import Receipt, sign_ack, sign_possession
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from consent.eventlog.merkle import OPENING_BYTES
from consent.eventlog.proof import consistency_proof
from consent.trail import Trail, TrailEntry, TrailSidecar
from tests.fakes.signing_feed import ORIGIN, START_MS, SigningFeed, opt_out

REQUEST_ID = bytes([7]) * 16


def make_sidecar_key(name: str, seed: int = 0) -> SigningKey:
    """The key of a sidecar; another seed, another key of the same name."""
    return generate_signing_key(name, KeyKind.SIDECAR, bytes([seed]) + name.encode().rjust(31, b"\x00"))


@dataclass
class TrailLog:
    """A log that ends with whatever a test appends.

    Attributes:
        feed: The log.
        keys: Of the sidecars, by name.
        enrol_seqs: Of the sidecars, by name.
    """

    feed: SigningFeed = field(default_factory=SigningFeed)
    keys: dict[str, SigningKey] = field(default_factory=dict)
    enrol_seqs: dict[str, int] = field(default_factory=dict)

    def append(self, event: Event) -> int:
        self.feed.append(event)
        return self.feed.size

    def enrol(self, name: str, key: SigningKey | None = None, possession: bytes = b"") -> None:
        key = self.keys[name] = key or make_sidecar_key(name)
        event = EnrolEvent(
            origin=ORIGIN,
            sidecar_id=name,
            public_key=key.verifier_key.public_key,
            enrolled_at_ms=START_MS,
            possession=possession or sign_possession(key, ORIGIN),
        )
        self.enrol_seqs[name] = self.append(event)

    def opt_out(self) -> int:
        """RECEIVED and an opt-out; returns the seq of the latter."""
        self.append(ReceivedEvent(origin=ORIGIN, request_id=REQUEST_ID, received_at_ms=START_MS + 1, request_type=1))
        return self.append(opt_out(1, request_id=REQUEST_ID))

    def sign(self, name: str, size: int | None = None, applied_at_ms: int = START_MS + 5, **changes: bytes) -> Receipt:
        size = self.feed.size if size is None else size
        root_hash = changes.get("root_hash", self.feed.root_hash(size))
        return sign_ack(self.keys[name], ORIGIN, size, root_hash, applied_at_ms)

    def log_receipts(self, *receipts: Receipt) -> int:
        return self.append(ReceiptsEvent(origin=ORIGIN, source="feed", receipts=receipts))

    def entry(self, seq: int) -> TrailEntry:
        proof = self.feed.entry_proof(seq, self.feed.size)
        wire = proof.entry
        path = tuple(proof.audit_path)
        return TrailEntry(seq, wire.type_byte, path, wire.opening[:OPENING_BYTES], wire.event_bytes)

    def sidecar(self, name: str, receipts_seq: int = 0, size: int = 0) -> TrailSidecar:
        return TrailSidecar(name, self.enrol_seqs[name], receipts_seq, self.prove_prefix(size) if receipts_seq else ())

    def prove_prefix(self, size: int) -> tuple[bytes, ...]:
        return consistency_proof(size, self.feed.size, self.feed.node_at)

    def trail(self, seq: int, sidecars: list[TrailSidecar], *seqs: int) -> Trail:
        """The trail of `seq`, with the entries that the sidecars name and those of `seqs`."""
        named = {seq, *seqs}
        for sidecar in sidecars:
            named |= {sidecar.enrol_seq, sidecar.receipts_seq} - {0}
        entries = tuple(self.entry(number) for number in sorted(named))
        return Trail(seq, self.feed.checkpoint(), entries, tuple(sidecars))


def make_trail() -> Trail:
    """An opt-out in force at two sidecars, since START_MS + 5 and START_MS + 9."""
    log = TrailLog()
    for name in ("pod-1", "pod-2"):
        log.enrol(name)
    seq = log.opt_out()
    log.append(opt_out(2))
    size = log.feed.size
    first = log.log_receipts(log.sign("pod-1", seq), log.sign("pod-1", size, START_MS + 20))
    log.append(opt_out(3))
    second = log.log_receipts(log.sign("pod-2", size, START_MS + 9))
    log.append(opt_out(4))
    sidecars = [log.sidecar("pod-1", first, seq), log.sidecar("pod-2", second, size)]
    return log.trail(seq, sidecars, seq - 1)
