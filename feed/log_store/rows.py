"""Rows of the database and what they stand for. All that is written goes through here sealed; all that is read comes out checked."""

import struct
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Any, Final

from consent.errors import ConsentError
from consent.eventlog.attestation import format_attestations, parse_attestations
from consent.eventlog.errors import MalformedAttestation, MalformedFrontier
from consent.eventlog.merkle import HASH_BYTES, OPENING_BYTES, parse_frontier
from consent.state_record import first_token_of, format_tenant, parse_tenant
from consent.tenant_state import TenantState
from feed.errors import CorruptLog
from feed.log_store.port import ClusterRow, LoggedRequest, RequestName, StoredHead
from feed.log_store.sealing import Sealer
from feed.ports import Accepted, StoredEntry

Row = tuple[Any, ...]

_ENTRY: Final = struct.Struct(">cQB")
_PAYLOAD: Final = struct.Struct(f">{OPENING_BYTES}sB")
_REQUEST: Final = struct.Struct(">32s16sQq")
_HEAD: Final = struct.Struct(">QqI")
_SEALED_HEAD_BYTES: Final = 2 * HASH_BYTES
_NAME_HASH_BYTES: Final = 16
_TOKEN_HASH_BYTES: Final = 16
_MAX_TRACEPARENT_BYTES: Final = 127
#: In the byte that holds the traceparent's length: signatures follow it, their length first.
_HAS_ATTESTATIONS: Final = 0x80
_ATTESTATIONS_LENGTH: Final = struct.Struct(">I")


class RowCodec:
    """Makes rows and reads them.

    Args:
        sealer: Seals and opens.
        index_key: 32 bytes, for the hashes by which tokens and requests are found.
    """

    def __init__(self, sealer: Sealer, index_key: bytes) -> None:
        self._sealer = sealer
        self._index_key = index_key
        # A tenant's record is as long as its list of sidecars, and seldom another one than in the commit before.
        self._tenant_hash: tuple[TenantState, bytes] | None = None

    def entry_row(self, entry: StoredEntry) -> Row:
        """(seq, type, sealed)."""
        place = _ENTRY.pack(b"e", entry.seq, entry.type_byte)
        return entry.seq, entry.type_byte, self._sealer.seal(place, format_payload(entry))

    def read_entry(self, row: Row) -> StoredEntry:
        """The entry of an `entry_row`; raises CorruptLog."""
        seq, type_byte = read_number(row[0], "seq"), read_number(row[1], "type", 0xFF)
        return parse_payload(seq, type_byte, self._sealer.open(_ENTRY.pack(b"e", seq, type_byte), row[2]))

    def token_hash(self, token: bytes) -> bytes:
        """16 bytes under which a token is found again.

        The first byte is the token's own, so that the rows lie in 256 groups in the order of the tokens: a snapshot, which needs that
        order, sorts one group at a time. It tells no more of a token than one in 256.
        """
        digest = blake2b(token, key=self._index_key, digest_size=_TOKEN_HASH_BYTES - 1, person=b"csty-row-v1")
        return token[:1] + digest.digest()

    def cluster_row(self, first_token: bytes, record: bytes) -> Row:
        """(token_hash, sealed)."""
        token_hash = self.token_hash(first_token)
        return token_hash, self._sealer.seal(b"c" + token_hash, record)

    def read_cluster(self, token_hash: object, sealed: object) -> bytes:
        """The record of a `cluster_row`; raises CorruptLog."""
        return self._sealer.open(b"c" + read_bytes(token_hash, "token_hash"), sealed)

    def read_ordered(self, rows: Iterable[Row]) -> list[ClusterRow]:
        """The clusters of `cluster_row`s in the order of their first token; raises CorruptLog."""
        records = (self.read_cluster(*row) for row in rows)
        return sorted(ClusterRow(first_token_of(record), record) for record in records)

    def name_hash(self, name: RequestName) -> bytes:
        """16 bytes under which a request is found again."""
        source, key = (part.encode("utf-8", "surrogatepass") for part in name)
        digest = blake2b(key=self._index_key, digest_size=_NAME_HASH_BYTES, person=b"csty-request-v1")
        digest.update(len(source).to_bytes(4, "big") + source + key)
        return digest.digest()

    def request_row(self, name_hash: bytes, request: LoggedRequest) -> Row:
        """(name_hash, sealed)."""
        return name_hash, self._sealer.seal(b"r" + name_hash, format_request_answer(request))

    def read_request(self, row: Row) -> LoggedRequest:
        """The request of a `request_row`; raises CorruptLog."""
        return parse_request_answer(self._sealer.open(b"r" + read_bytes(row[0], "name_hash"), row[1]))

    def head_row(self, head: StoredHead) -> Row:
        """(version, frontier, checkpoint_note, checkpoint_time_ms, sealed)."""
        frontier = head.frontier.to_bytes()
        place = _head_place(head.version, head.checkpoint_time_ms, frontier, head.checkpoint_note)
        content = self._hash_tenant(head.tenant) + head.state_sum
        sealed = self._sealer.seal(place, content)
        return head.version, frontier, head.checkpoint_note, head.checkpoint_time_ms, sealed

    def _hash_tenant(self, tenant: TenantState) -> bytes:
        if self._tenant_hash is None or self._tenant_hash[0] is not tenant:
            self._tenant_hash = tenant, sha256(format_tenant(tenant)).digest()
        return self._tenant_hash[1]

    def tenant_row(self, head: StoredHead) -> Row:
        """(sealed,)."""
        return (self._sealer.seal(b"t", format_tenant(head.tenant)),)

    def read_head(self, row: Row, sealed_tenant: object) -> StoredHead:
        """The head of a `head_row` and a `tenant_row`, which belong together; raises CorruptLog."""
        version, time_ms = read_number(row[0], "version"), read_number(row[3], "checkpoint_time_ms")
        frontier, note = read_bytes(row[1], "frontier"), read_bytes(row[2], "checkpoint_note")
        content = self._sealer.open(_head_place(version, time_ms, frontier, note), row[4])
        tenant_record = self._sealer.open(b"t", sealed_tenant)
        if len(content) != _SEALED_HEAD_BYTES or sha256(tenant_record).digest() != content[:HASH_BYTES]:
            raise CorruptLog("the tenant's record is not the head's")
        try:
            return StoredHead(
                version, parse_frontier(frontier), note, time_ms, parse_tenant(tenant_record), content[HASH_BYTES:]
            )
        except (MalformedFrontier, ConsentError) as error:
            raise CorruptLog(f"head: {error}") from None


def format_payload(entry: StoredEntry) -> bytes:
    """What is sealed of an entry: 32 bytes of opening, u8 length and traceparent, signatures if there are any, event bytes.

    Of one whose payload was erased: its commitment in the opening's place, and neither trace context nor event bytes.
    """
    if not entry.event_bytes:
        return _PAYLOAD.pack(entry.commitment, 0)
    # Longer ones are not W3C's; the trace context is no part of what is hashed, so leaving one out changes nothing.
    traceparent = entry.traceparent.encode("ascii", "replace")
    if len(traceparent) > _MAX_TRACEPARENT_BYTES:
        traceparent = b""
    attestations = format_attestations(entry.attestations)
    flag = _HAS_ATTESTATIONS if attestations else 0
    payload = _PAYLOAD.pack(entry.opening, len(traceparent) | flag) + traceparent
    if attestations:
        payload += _ATTESTATIONS_LENGTH.pack(len(attestations)) + attestations
    return payload + entry.event_bytes


def parse_payload(seq: int, type_byte: int, payload: bytes) -> StoredEntry:
    """The entry of a `format_payload` that was authentic; raises CorruptLog."""
    opening, length = _PAYLOAD.unpack_from(payload)
    start = _PAYLOAD.size
    if start == len(payload):
        return StoredEntry(seq, type_byte, b"", b"", commitment=opening)
    end = start + (length & ~_HAS_ATTESTATIONS)
    traceparent = payload[start:end].decode("ascii")
    if not length & _HAS_ATTESTATIONS:
        return StoredEntry(seq, type_byte, opening, payload[end:], traceparent)
    start = end + _ATTESTATIONS_LENGTH.size
    end = start + _ATTESTATIONS_LENGTH.unpack_from(payload, end)[0]
    try:
        attestations = parse_attestations(payload[start:end])
    except MalformedAttestation as error:
        raise CorruptLog(f"entry {seq}: {error}") from None
    return StoredEntry(seq, type_byte, opening, payload[end:], traceparent, attestations)


def format_request_answer(request: LoggedRequest) -> bytes:
    """What is sealed of a request: digest, request id, u64 seq, i64 time, and the reason of a rejection."""
    accepted = request.accepted
    content = _REQUEST.pack(request.digest, accepted.request_id, accepted.seq, accepted.accepted_at_ms)
    return content + accepted.rejection.encode("ascii")


def parse_request_answer(content: bytes) -> LoggedRequest:
    """The request of a `format_request_answer` that was authentic."""
    digest, request_id, seq, accepted_at_ms = _REQUEST.unpack_from(content)
    rejection = content[_REQUEST.size :].decode("ascii")
    return LoggedRequest(digest, Accepted(request_id, seq, accepted_at_ms, rejection))


def read_bytes(value: object, column: str) -> bytes:
    """A value that must be bytes; raises CorruptLog, since a damaged row may hold another type."""
    if not isinstance(value, bytes):
        raise CorruptLog(f"{column}: not of the type that was written")
    return value


def read_number(value: object, column: str, maximum: int = 2**63 - 1) -> int:
    """A value that must be a whole number from 0 to `maximum`; raises CorruptLog."""
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise CorruptLog(f"{column}: not of the type or range that was written")
    return value


def read_text(value: object, column: str) -> str:
    """A value that must be text; raises CorruptLog."""
    if not isinstance(value, str):
        raise CorruptLog(f"{column}: not of the type that was written")
    return value


def check_consecutive(entries: Iterable[StoredEntry], from_seq: int) -> None:
    """Raise CorruptLog where a seq is missing."""
    for expected, entry in enumerate(entries, start=from_seq):
        if entry.seq != expected:
            raise CorruptLog(f"entry {expected} is missing")


def _head_place(version: int, time_ms: int, frontier: bytes, note: bytes) -> bytes:
    return b"h" + _HEAD.pack(version, time_ms, len(frontier)) + frontier + note
