"""Reads a feed's log: `AuditService.ReadLog`."""

from collections.abc import Iterator
from typing import NamedTuple

import grpc
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

from auditor.errors import SourceMisbehaves
from auditor.log_copy import CopiedEntry
from consent.eventlog.attestation import Attestation
from consent.eventlog.errors import EventLogError


class LogPage(NamedTuple):
    """A part of a log.

    Attributes:
        entries: Following each other.
        checkpoint_note: Signed checkpoint of the whole log; empty but in the last page.
    """

    entries: tuple[CopiedEntry, ...]
    checkpoint_note: bytes


def read_log(channel: grpc.Channel, from_seq: int) -> Iterator[LogPage]:
    """Every entry from `from_seq` on, page by page.

    Raises:
        SourceMisbehaves: Entries do not follow each other, have no form, or the last page has no checkpoint.
    """
    stub = audit_pb2_grpc.AuditServiceStub(channel)
    due, note = from_seq, b""
    for response in stub.ReadLog(audit_pb2.ReadLogRequest(from_seq=from_seq)):
        if response.entries and response.from_seq != due:
            raise SourceMisbehaves(f"feed: entry {response.from_seq} comes where entry {due} is due")
        entries = tuple(_read_entry(due + at, entry) for at, entry in enumerate(response.entries))
        due, note = due + len(entries), response.checkpoint
        yield LogPage(entries, note)
    if not note:
        raise SourceMisbehaves("feed: the log ends without a checkpoint")


def _read_entry(seq: int, entry: event_pb2.Entry) -> CopiedEntry:
    try:
        attestations = tuple(_read_attestation(attestation) for attestation in entry.attestations)
        copied = CopiedEntry(seq, entry.type, entry.opening, entry.event_bytes, entry.commitment, attestations)
        # What cannot be a leaf cannot be written either.
        copied.leaf_hash()
    except EventLogError:
        raise SourceMisbehaves(f"feed: entry {seq} has no form that an entry can have") from None
    return copied


def _read_attestation(message: event_pb2.Attestation) -> Attestation:
    return Attestation(
        key_name=message.key_name,
        key_id=message.key_id,
        signed_at_unix_seconds=message.signed_at_unix_seconds,
        signature=message.signature,
        evidence_digest=message.evidence_digest,
        batch_index=message.batch_index,
        batch_size=message.batch_size,
        audit_path=tuple(message.audit_path),
    )
