"""AuditService: how an entry came to be in force, how far the sidecars are, the log itself, and what leads from people to pseudonyms."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import grpc
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc

from consent.eventlog.acknowledgement import Receipt
from consent.key_ring import seal_key_ring
from consent.tenant_state import EnrolledSidecar
from consent.trail import Trail, TrailEntry, TrailSidecar
from feed.audit import TrailMaker
from feed.disclosure import Disclosure
from feed.enrolment import EnrolmentDesk
from feed.errors import InvalidRequest, Overloaded
from feed.grpc_api.audit_requests import describe_get_replay_keys, describe_read_log, describe_resolve
from feed.grpc_api.intake_codec import read_subject
from feed.grpc_api.log_stream import stream_log
from feed.grpc_api.progress import ProgressBook, SidecarProgress
from feed.journal_watch import JournalWatch
from feed.log_store.port import LogStore
from feed.ports import Log
from hosting.clock import Clock

SERVICE_NAME = "consentry.feed.v1.AuditService"
MAX_READERS: Final = 4
"""Of the whole log at a time; one more is answered RESOURCE_EXHAUSTED."""

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class AuditIdentity:
    """Whose log it is.

    Attributes:
        tenant: Name of the tenant.
        origin: Name of the log.
    """

    tenant: str
    origin: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of the sidecars.

    Attributes:
        desk: Which are enrolled.
        progress: How far each says it is.
        watch: How long ago each has shown its journal.
    """

    desk: EnrolmentDesk
    progress: ProgressBook
    watch: JournalWatch


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Implements `consentry.feed.v1.AuditService`; `feed.grpc_api.roles` says who may call what, `access_recorder` has it logged.

    Args:
        trails: Makes trails.
        log: The log.
        store: Where receipts are found.
        fleet: What is known of the sidecars.
        disclosure: Leads from people to pseudonyms.
        clock: The time.
        identity: Whose log it is.
    """

    def __init__(
        self,
        trails: TrailMaker,
        log: Log,
        store: LogStore,
        fleet: Fleet,
        *,
        disclosure: Disclosure,
        clock: Clock,
        identity: AuditIdentity,
    ) -> None:
        self._trails = trails
        self._log = log
        self._store = store
        self._fleet = fleet
        self._disclosure = disclosure
        self._clock = clock
        self._identity = identity
        self._readers = 0

    async def ReadLog(
        self, request: audit_pb2.ReadLogRequest, context: _Context
    ) -> AsyncIterator[audit_pb2.ReadLogResponse]:
        """Every entry, and the checkpoint."""
        describe_read_log(request)
        if self._readers >= MAX_READERS:
            raise Overloaded(f"the log is read by {MAX_READERS} callers already; try again later")
        self._readers += 1
        try:
            async with aclosing(stream_log(self._log, request.from_seq)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._readers -= 1

    async def Resolve(self, request: audit_pb2.ResolveRequest, context: _Context) -> audit_pb2.ResolveResponse:
        """What stands for a person's identifier."""
        describe_resolve(request)
        subject = read_subject(request.identifier)
        if subject.token or subject.key_epoch:
            raise InvalidRequest("identifier.token: an identifier is needed")
        found = await self._disclosure.resolve(subject, range(request.from_day, request.to_day + 1))
        return audit_pb2.ResolveResponse(
            tokens=found.tokens,
            days=[audit_pb2.DayPseudonyms(day=day, pseudonyms=made) for day, made in found.pseudonyms.items()],
            seqs=found.seqs,
        )

    async def GetReplayKeys(
        self, request: audit_pb2.GetReplayKeysRequest, context: _Context
    ) -> audit_pb2.GetReplayKeysResponse:
        """The keys of a replay, for one auditor."""
        describe_get_replay_keys(request)
        sealed = seal_key_ring(
            self._disclosure.replay_keys(range(request.from_day, request.to_day + 1)),
            request.recipient_public_key,
            tenant=self._identity.tenant,
            sidecar_id=request.recipient_name,
        )
        return audit_pb2.GetReplayKeysResponse(sealed_key_ring=sealed)

    async def GetEventTrail(
        self, request: audit_pb2.GetEventTrailRequest, context: _Context
    ) -> audit_pb2.GetEventTrailResponse:
        """The trail of an entry."""
        trail, receipts = await self._trails.make(request.seq)
        return encode_trail(trail, receipts, self._log.head.tenant.sidecars)

    async def GetFleetStatus(
        self, request: audit_pb2.GetFleetStatusRequest, context: _Context
    ) -> audit_pb2.GetFleetStatusResponse:
        """Every sidecar that was ever heard of."""
        known = {progress.sidecar_id: progress for progress in self._fleet.progress.progress()}
        pending = {asked.sidecar_id for asked in self._fleet.desk.pending}
        enrolled = {sidecar.sidecar_id: sidecar for sidecar in self._log.head.tenant.sidecars}
        named = {change.sidecar_id for change in self._fleet.desk.changes}
        members = [
            await self._describe(known.get(name) or SidecarProgress(name), enrolled.get(name), name in pending)
            for name in sorted({*known, *pending, *enrolled, *named})
        ]
        sizes = [member.receipt_size for member in members if member.sidecar_id in enrolled]
        return audit_pb2.GetFleetStatusResponse(
            log_origin=self._identity.origin,
            log_size=self._log.head.size,
            size_in_force_everywhere=min(sizes, default=0),
            sidecars=members,
        )

    async def _describe(
        self, progress: SidecarProgress, enrolled: EnrolledSidecar | None, is_pending: bool
    ) -> audit_pb2.FleetMember:
        name, change = progress.sidecar_id, self._fleet.desk.find_change(progress.sidecar_id)
        state, seq, receipt_size = audit_pb2.ENROLMENT_STATE_NOT_ENROLLED, 0, 0
        if enrolled is not None:
            newest = await self._store.find_receipt(name, 0, enrolled.enrolled_seq, newest=True)
            state, seq = audit_pb2.ENROLMENT_STATE_ENROLLED, enrolled.enrolled_seq
            receipt_size = newest.size if newest is not None else 0
        elif is_pending:
            state = audit_pb2.ENROLMENT_STATE_PENDING
        elif change is not None:
            state, seq = audit_pb2.ENROLMENT_STATE_RETIRED, change.seq
        has_spoken = progress.acknowledged_at_ms > 0
        return audit_pb2.FleetMember(
            sidecar_id=name,
            enrolment=state,
            enrolled_seq=seq,
            connected=progress.connected,
            acknowledged_size=progress.acknowledged_size,
            age_ms=max(0, self._clock.now_ms() - progress.acknowledged_at_ms) if has_spoken else None,
            receipt_size=receipt_size,
            journal_head_age_ms=self._fleet.watch.head_age_ms(name),
            journal_silent=self._fleet.watch.is_silent(name),
            version=progress.version,
            last_error_reason=progress.last_nack_reason,
        )


def add_audit_service(servicer: AuditServicer, server: grpc.aio.Server) -> None:
    """Serve it on a server that is not started yet."""
    audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, server)


def encode_trail(
    trail: Trail, receipts: Mapping[str, Receipt], enrolled: tuple[EnrolledSidecar, ...]
) -> audit_pb2.GetEventTrailResponse:
    """A trail as it travels, with what its entries say about each sidecar beside it."""
    keys = {sidecar.sidecar_id: sidecar.public_key for sidecar in enrolled}
    times = [receipt.applied_at_ms for receipt in receipts.values()]
    is_everywhere = bool(times) and len(times) == len(trail.sidecars)
    return audit_pb2.GetEventTrailResponse(
        seq=trail.seq,
        checkpoint=trail.checkpoint_note,
        entries=[_encode_entry(entry) for entry in trail.entries],
        sidecars=[
            _encode_sidecar(sidecar, receipts.get(sidecar.sidecar_id), keys.get(sidecar.sidecar_id, b""))
            for sidecar in trail.sidecars
        ],
        in_force_everywhere_at_ms=max(times) if is_everywhere else None,
    )


def decode_trail(response: audit_pb2.GetEventTrailResponse) -> Trail:
    """The trail of an answer, for a file that `verify-trail` reads; nothing of it is verified."""
    entries = tuple(
        TrailEntry(
            seq=entry.seq,
            type_byte=entry.type,
            audit_path=tuple(entry.audit_path),
            opening=entry.opening,
            event_bytes=entry.event_bytes,
            commitment=entry.commitment,
        )
        for entry in response.entries
    )
    sidecars = tuple(
        TrailSidecar(
            sidecar_id=sidecar.sidecar_id,
            enrol_seq=sidecar.enrolled_seq,
            receipts_seq=sidecar.receipt.receipts_seq,
            consistency_proof=tuple(sidecar.receipt.consistency_proof),
        )
        for sidecar in response.sidecars
    )
    return Trail(response.seq, response.checkpoint, entries, sidecars)


def _encode_entry(entry: TrailEntry) -> audit_pb2.TrailEntry:
    return audit_pb2.TrailEntry(
        seq=entry.seq,
        type=entry.type_byte,
        opening=entry.opening,
        event_bytes=entry.event_bytes,
        commitment=entry.commitment,
        audit_path=entry.audit_path,
    )


def _encode_sidecar(sidecar: TrailSidecar, receipt: Receipt | None, public_key: bytes) -> audit_pb2.TrailSidecar:
    encoded = audit_pb2.TrailSidecar(
        sidecar_id=sidecar.sidecar_id, public_key=public_key, enrolled_seq=sidecar.enrol_seq
    )
    if receipt is not None:
        encoded.receipt.CopyFrom(
            audit_pb2.SidecarReceipt(
                size=receipt.size,
                root_hash=receipt.root_hash,
                state_root=receipt.state_root,
                applied_at_ms=receipt.applied_at_ms,
                signature=receipt.signature,
                receipts_seq=sidecar.receipts_seq,
                consistency_proof=sidecar.consistency_proof,
            )
        )
    return encoded
