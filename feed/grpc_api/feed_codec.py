"""Between the feed's types and the wire's."""

from collections.abc import Sequence

from consentry.event.v1 import event_pb2
from consentry.feed.v1 import feed_pb2

from consent.eventlog.acknowledgement import NO_STATE_ROOT, Receipt
from consent.eventlog.errors import InvalidJournalHead
from consent.eventlog.journal_head import parse_disposal, parse_head
from consent.eventlog.merkle import EMPTY_ROOT_HASH, HASH_BYTES
from feed.errors import HeadInvalid, InvalidRequest
from feed.grpc_api.attestation_codec import encode_attestation
from feed.journal_heads import MAX_STATEMENTS, JournalStatements
from feed.ports import Snapshot, StoredEntry


def encode_entry(entry: StoredEntry) -> event_pb2.Entry:
    """An entry as it travels."""
    return event_pb2.Entry(
        type=entry.type_byte,
        opening=entry.opening,
        event_bytes=entry.event_bytes,
        traceparent=entry.traceparent,
        attestations=[encode_attestation(attestation) for attestation in entry.attestations],
        commitment=entry.commitment,
    )


def encode_entries(entries: Sequence[StoredEntry], checkpoint_note: bytes) -> feed_pb2.SubscribeResponse:
    """Consecutive entries, with the checkpoint for the last one's size or none."""
    return feed_pb2.SubscribeResponse(
        entries=feed_pb2.Entries(
            from_seq=entries[0].seq,
            entries=[encode_entry(entry) for entry in entries],
            checkpoint=checkpoint_note,
        )
    )


def encode_heartbeat(checkpoint_note: bytes) -> feed_pb2.SubscribeResponse:
    """The newest checkpoint while nothing is new."""
    return feed_pb2.SubscribeResponse(heartbeat=feed_pb2.Heartbeat(checkpoint=checkpoint_note))


def encode_snapshot_required(min_seq: int) -> feed_pb2.SubscribeResponse:
    """From which seq on entries can still be had."""
    return feed_pb2.SubscribeResponse(snapshot_required=feed_pb2.SnapshotRequired(min_seq=min_seq))


def encode_snapshot_header(snapshot: Snapshot) -> feed_pb2.GetSnapshotResponse:
    """All of a snapshot but its chunks."""
    return feed_pb2.GetSnapshotResponse(
        header=feed_pb2.SnapshotHeader(
            size=snapshot.size,
            frontier_hashes=snapshot.frontier_hashes,
            checkpoint=snapshot.checkpoint_note,
            state_root_entry=encode_entry(snapshot.state_root_entry),
            chunk_count=snapshot.chunk_count,
            subject_count=snapshot.subject_count,
            tenant_record=snapshot.tenant_record,
        )
    )


def encode_snapshot_chunk(number: int, records: bytes) -> feed_pb2.GetSnapshotResponse:
    """One run of cluster records."""
    return feed_pb2.GetSnapshotResponse(chunk=feed_pb2.SnapshotChunk(number=number, records=records))


def decode_hello(request: feed_pb2.SubscribeRequest) -> feed_pb2.Hello:
    """The first message of a stream.

    Raises:
        InvalidRequest: It is another, or its root has no form that a root can have.
    """
    if request.WhichOneof("message") != "hello":
        raise InvalidRequest("message: the first one must be a hello")
    hello = request.hello
    if hello.size == 0 and hello.root_hash in (b"", EMPTY_ROOT_HASH):
        return hello
    if len(hello.root_hash) != HASH_BYTES:
        raise InvalidRequest(f"root_hash: must be {HASH_BYTES} bytes")
    return hello


def decode_ack(sidecar_id: str, ack: feed_pb2.Ack) -> Receipt:
    """An acknowledgement of the sidecar whose stream it came on; neither root nor signature is checked.

    Raises:
        InvalidRequest: A hash has no form that one can have.
    """
    state_root = ack.state_root or NO_STATE_ROOT
    if len(ack.root_hash) != HASH_BYTES or len(state_root) != HASH_BYTES:
        raise InvalidRequest(f"ack: root_hash and state_root must be {HASH_BYTES} bytes")
    return Receipt(sidecar_id, ack.size, ack.root_hash, state_root, ack.applied_at_ms, ack.signature)


def decode_statements(request: feed_pb2.RecordJournalHeadsRequest) -> JournalStatements:
    """What a sidecar says about its journal; no signature is checked.

    Raises:
        InvalidRequest: More than one request may hold.
        HeadInvalid: A statement cannot be read.
    """
    if max(len(request.heads), len(request.disposals)) > MAX_STATEMENTS:
        raise InvalidRequest(f"heads, disposals: 1 to {MAX_STATEMENTS} in one request")
    try:
        heads = [parse_head(each) for each in request.heads]
        disposals = [parse_disposal(each) for each in request.disposals]
    except InvalidJournalHead:
        raise HeadInvalid("heads, disposals: one of them cannot be read") from None
    return JournalStatements(request.sidecar_id, heads, disposals)
