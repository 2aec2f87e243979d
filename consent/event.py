"""Events: the entries of the log, each with one canonical byte string.

Layout: u8 version, u8 type, then the type's fields in the order of `_LAYOUTS`. Types below 0x80 change answers and must be understood;
from 0x80 on they are hashed and kept, never folded. The sequence number is the entry's place in the log and not part of the event.
docs/protocol.md shows the same table; the vectors under tests/vectors/event pin it for other languages.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, ClassVar

from consent import encoding as wire
from consent.errors import MalformedEvent, UnknownEventType
from consent.eventlog.acknowledgement import Receipt
from consent.eventlog.journal_head import DISPOSAL, HEAD, JournalDisposal, JournalHead
from consent.vocabulary.directive import ANY, GrantedBy

EVENT_VERSION = 1
FIRST_INFORMATIVE_TYPE = 0x80
MAX_EVENT_BYTES = 4 * 1024 * 1024 + 4096
"""A policy document of 4 MiB and its frame."""


class EventType(IntEnum):
    """Type bytes. Those without a layout yet are reserved and refused (below 0x80) or passed over (from 0x80 on)."""

    DIRECTIVE = 0x01
    LINK = 0x02
    UNLINK = 0x03
    FACT = 0x04
    RESTRICTION = 0x05
    POLICY = 0x06
    OVERRIDE = 0x07
    ERASURE = 0x08
    KEY_EPOCH = 0x09
    ENROL = 0x0A
    RETIRE = 0x0B
    STATE_ROOT = 0x0C
    RECEIVED = 0x80
    REJECTED = 0x81
    RECEIPTS = 0x82
    JOURNAL_HEADS = 0x83
    ADMIN = 0x84
    DISPOSAL = 0x85
    ALERT = 0x86


class DirectiveFlag(IntFlag):
    """What intake had to decide about a directive's time."""

    NONE = 0
    TIME_CLAMPED = 1
    TIME_WITHOUT_ZONE = 2
    IMPORTED = 4


KNOWN_DIRECTIVE_FLAGS = sum(DirectiveFlag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries.

    Attributes:
        origin: Name of the log it was made for, so that it cannot be moved to another.
        key_epoch: Epoch of the tokens in it.
        request_id: 16 bytes that join the entries of one request.
        source: Who said so: the listener's or certificate's name at intake.
    """

    TYPE: ClassVar[EventType]
    origin: str
    key_epoch: int = 0
    request_id: bytes = bytes(16)
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectiveEvent(Event):
    """Somebody's say about a purpose; fields as in `consent.vocabulary.directive.Directive`."""

    TYPE: ClassVar[EventType] = EventType.DIRECTIVE
    token: bytes
    kind: int
    occurred_at_ms: int
    purpose: str
    proof: int = 0
    assurance: int = 0
    subtree: bool = False
    explicit: bool = False
    granted_by: int = GrantedBy.SELF
    notice_version: int = 0
    flags: int = DirectiveFlag.NONE
    recipient: str = ANY
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent(Event):
    """Two tokens are one person; grants cross the link only from proof 2 on."""

    TYPE: ClassVar[EventType] = EventType.LINK
    left: bytes
    right: bytes
    proof: int
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlinkEvent(Event):
    """They are not, or no longer; each side keeps the denials of both."""

    TYPE: ClassVar[EventType] = EventType.UNLINK
    left: bytes
    right: bytes
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FactEvent(Event):
    """Age band and jurisdictions; below proof 2 they can only tighten what is known."""

    TYPE: ClassVar[EventType] = EventType.FACT
    token: bytes
    age_band: int
    proof: int
    occurred_at_ms: int
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictionEvent(Event):
    """Restriction of processing (GDPR Art. 18) set, or lifted with proof 2 or more."""

    TYPE: ClassVar[EventType] = EventType.RESTRICTION
    token: bytes
    restricted: bool
    proof: int
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvent(Event):
    """A whole policy document that takes the place of another version."""

    TYPE: ClassVar[EventType] = EventType.POLICY
    version: int
    replaces_version: int
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideEvent(Event):
    """One objection, named by its seq, is overridden for one purpose (GDPR Art. 21(1))."""

    TYPE: ClassVar[EventType] = EventType.OVERRIDE
    token: bytes
    objection_seq: int
    occurred_at_ms: int
    purpose: str
    ground: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureEvent(Event):
    """A person was erased: what stands under these tokens becomes a denial of everything, and these entries lose their payload.

    Attributes:
        tokens: All of the person's, sorted.
        seqs: Of the entries whose payload is gone from here on, ascending.
        occurred_at_ms: When it was asked for.
    """

    TYPE: ClassVar[EventType] = EventType.ERASURE
    tokens: tuple[bytes, ...]
    seqs: tuple[int, ...]
    occurred_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEpochEvent(Event):
    """Commits to the subject key of an epoch (`consent.key_ring.commit_key`)."""

    TYPE: ClassVar[EventType] = EventType.KEY_EPOCH
    epoch: int
    key_commitment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolEvent(Event):
    """A sidecar's own key counts from here on, in place of an earlier one of the same name.

    `possession` is its signature that the key is its own (`consent.eventlog.acknowledgement.verify_possession`).
    """

    TYPE: ClassVar[EventType] = EventType.ENROL
    sidecar_id: str
    public_key: bytes
    enrolled_at_ms: int
    possession: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireEvent(Event):
    """A sidecar is gone: nobody waits for its acknowledgements any more."""

    TYPE: ClassVar[EventType] = EventType.RETIRE
    sidecar_id: str
    retired_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRootEvent(Event):
    """Commits to the folded state of all entries before it."""

    TYPE: ClassVar[EventType] = EventType.STATE_ROOT
    size: int
    state_root_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent(Event):
    """A request came in; what became of it is the entry with the same request id."""

    TYPE: ClassVar[EventType] = EventType.RECEIVED
    received_at_ms: int
    request_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent(Event):
    """A request was refused."""

    TYPE: ClassVar[EventType] = EventType.REJECTED
    rejected_at_ms: int
    rejection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptsEvent(Event):
    """Signed acknowledgements of sidecars, as the feed has taken and checked them."""

    TYPE: ClassVar[EventType] = EventType.RECEIPTS
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalHeadsEvent(Event):
    """Signed heads of sidecars' journals, as the feed has taken and checked them."""

    TYPE: ClassVar[EventType] = EventType.JOURNAL_HEADS
    received_at_ms: int
    heads: tuple[JournalHead, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent(Event):
    """Somebody used a privilege, or was refused one.

    Attributes:
        occurred_at_ms: Unix ms by the feed's clock.
        action: `<service>/<method>`, or the name of what a program did.
        role: Role of the listener that it came in by.
        actor: Who: the name in the certificate, or of the listener.
        outcome: `OK`, or the stable reason of the refusal or failure.
        count: How many times; more than 1 where refusals were gathered.
        detail: What it was about, in words that name no person.
    """

    TYPE: ClassVar[EventType] = EventType.ADMIN
    occurred_at_ms: int
    action: str
    role: str
    actor: str
    outcome: str
    count: int = 1
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisposalEvent(Event):
    """Sidecars disposed of the oldest segments of their journals."""

    TYPE: ClassVar[EventType] = EventType.DISPOSAL
    received_at_ms: int
    disposals: tuple[JournalDisposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent(Event):
    """Something that a person must look at began, or is over.

    Attributes:
        raised_at_ms: Unix ms by the feed's clock.
        alert: Stable name, such as `JOURNAL_SILENT`.
        about: What it is about: the name of a sidecar or a source.
        is_over: It is over.
        detail: Figures in words; names no person.
    """

    TYPE: ClassVar[EventType] = EventType.ALERT
    raised_at_ms: int
    alert: str
    about: str
    is_over: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueEvent(Event):
    """An informative event of a type or version that this reader does not know: hashed and passed over."""

    type_byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedEvent(Event):
    """Stands for an entry whose payload was erased: hashed by its commitment, and folded to nothing."""

    type_byte: int


RECEIPT = wire.record(
    Receipt,
    (
        ("sidecar_id", wire.STRING),
        ("size", wire.U64),
        ("root_hash", wire.HASH),
        ("state_root", wire.HASH),
        ("applied_at_ms", wire.TIME),
        ("signature", wire.raw(64)),
    ),
)
"""The encoding of a receipt in RECEIPTS, and in a sidecar's outbox."""

_FIRST = (("key_epoch", wire.U64), ("request_id", wire.raw(16)))
_LAST = (("origin", wire.STRING), ("source", wire.STRING))

_FIELDS: dict[type[Event], tuple[tuple[str, wire.Field], ...]] = {
    DirectiveEvent: (
        ("token", wire.TOKEN),
        ("kind", wire.U8),
        ("occurred_at_ms", wire.TIME),
        ("proof", wire.U8),
        ("assurance", wire.U8),
        ("subtree", wire.FLAG),
        ("explicit", wire.FLAG),
        ("granted_by", wire.U8),
        ("notice_version", wire.U64),
        ("flags", wire.U64),
        ("purpose", wire.STRING),
        ("recipient", wire.STRING),
        ("expires_at_ms", wire.optional(wire.TIME)),
    ),
    LinkEvent: (("left", wire.TOKEN), ("right", wire.TOKEN), ("proof", wire.U8), ("occurred_at_ms", wire.TIME)),
    UnlinkEvent: (("left", wire.TOKEN), ("right", wire.TOKEN), ("occurred_at_ms", wire.TIME)),
    FactEvent: (
        ("token", wire.TOKEN),
        ("age_band", wire.U8),
        ("proof", wire.U8),
        ("occurred_at_ms", wire.TIME),
        ("jurisdictions", wire.sequence(wire.STRING)),
    ),
    RestrictionEvent: (
        ("token", wire.TOKEN),
        ("restricted", wire.FLAG),
        ("proof", wire.U8),
        ("occurred_at_ms", wire.TIME),
    ),
    PolicyEvent: (("version", wire.U64), ("replaces_version", wire.U64), ("document", wire.BLOB)),
    OverrideEvent: (
        ("token", wire.TOKEN),
        ("objection_seq", wire.U64),
        ("occurred_at_ms", wire.TIME),
        ("purpose", wire.STRING),
        ("ground", wire.STRING),
    ),
    ErasureEvent: (
        ("tokens", wire.sequence(wire.TOKEN)),
        ("seqs", wire.long_sequence(wire.U64)),
        ("occurred_at_ms", wire.TIME),
    ),
    KeyEpochEvent: (("epoch", wire.U64), ("key_commitment", wire.HASH)),
    EnrolEvent: (
        ("sidecar_id", wire.STRING),
        ("public_key", wire.HASH),
        ("enrolled_at_ms", wire.TIME),
        ("possession", wire.raw(64)),
    ),
    RetireEvent: (("sidecar_id", wire.STRING), ("retired_at_ms", wire.TIME)),
    StateRootEvent: (("size", wire.U64), ("state_root_hash", wire.HASH)),
    ReceivedEvent: (("received_at_ms", wire.TIME), ("request_type", wire.U8)),
    RejectedEvent: (("rejected_at_ms", wire.TIME), ("rejection", wire.STRING)),
    ReceiptsEvent: (("receipts", wire.sequence(RECEIPT)),),
    JournalHeadsEvent: (("received_at_ms", wire.TIME), ("heads", wire.sequence(HEAD))),
    AdminEvent: (
        ("occurred_at_ms", wire.TIME),
        ("action", wire.STRING),
        ("role", wire.STRING),
        ("actor", wire.STRING),
        ("outcome", wire.STRING),
        ("count", wire.U64),
        ("detail", wire.STRING),
    ),
    DisposalEvent: (("received_at_ms", wire.TIME), ("disposals", wire.sequence(DISPOSAL))),
    AlertEvent: (
        ("raised_at_ms", wire.TIME),
        ("alert", wire.STRING),
        ("about", wire.STRING),
        ("is_over", wire.FLAG),
        ("detail", wire.STRING),
    ),
}
LAYOUTS: dict[type[Event], tuple[tuple[str, wire.Field], ...]] = {
    event_class: (*_FIRST, *fields, *_LAST) for event_class, fields in _FIELDS.items()
}
"""The encoding of every event type, field by field; docs/protocol.md is generated from it."""

_RECORDS = {event_class.TYPE: wire.record(event_class, layout) for event_class, layout in LAYOUTS.items()}
_READERS = {event_class.TYPE: wire.whole_record_reader(event_class, layout) for event_class, layout in LAYOUTS.items()}


def format_event(event: Event) -> bytes:
    """The canonical bytes of an event.

    Raises:
        ValueError, struct.error: A field is out of range: a bug of the caller, since intake checks what comes from outside.
    """
    return bytes((EVENT_VERSION, event.TYPE)) + _RECORDS[event.TYPE].write(event)


def parse_event(event_bytes: bytes) -> Event:
    """Read canonical event bytes back.

    Raises:
        UnknownEventType: A type below 0x80, or a version of it, that this reader does not know.
        MalformedEvent: Anything that `format_event` would not have written.
    """
    if len(event_bytes) < 2 or len(event_bytes) > MAX_EVENT_BYTES:
        raise MalformedEvent(f"an event has 2 to {MAX_EVENT_BYTES} bytes")
    version, type_byte = event_bytes[0], event_bytes[1]
    read: Any = _READERS.get(type_byte) if version == EVENT_VERSION else None  # type: ignore[call-overload]
    if read is None:
        if type_byte >= FIRST_INFORMATIVE_TYPE:
            return OpaqueEvent(origin="", type_byte=type_byte)
        raise UnknownEventType(f"event type 0x{type_byte:02x} of version {version} is not known here")
    try:
        event: Event = read(event_bytes, 2)
    except wire.Truncated as error:
        raise MalformedEvent(f"event of type 0x{type_byte:02x}: {error}") from None
    return event
