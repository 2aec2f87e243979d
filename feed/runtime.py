"""The composition root: the only place that builds adapters and starts tasks."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import grpc
from grpc_reflection.v1alpha import reflection

from consent.authority import Authority
from consent.eventlog.trust import Trust
from consent.key_ring import KeyRing
from consent.vocabulary.subject import Tokeniser
from feed.admin_log import AdminLog
from feed.alerts import AlertLog
from feed.audit import TrailMaker
from feed.backup.losses import LossGuard
from feed.backup.mark_keeping import MarkKeeper
from feed.backup.opening import LogPlace, open_log
from feed.backup.writing import write_backup
from feed.config import AuditListenerSettings, FeedSettings
from feed.disclosure import Disclosure
from feed.enrolment import EnrolmentDesk
from feed.erasure import Eraser
from feed.grpc_api import (
    audit_service,
    backup_service,
    enrolment_service,
    feed_service,
    intake_service,
    policy_service,
    subject_service,
)
from feed.grpc_api.access_recorder import Listener, RefusalRecorder, UseRecorder
from feed.grpc_api.progress import ProgressBook
from feed.grpc_api.roles import Role, RoleGuard
from feed.grpc_api.status import STATUSES
from feed.intake.receipts import ReceiptIssuer
from feed.intake.recorder import Recorder
from feed.intake.sources import Source
from feed.journal_heads import JournalHeadLog
from feed.journal_watch import JournalWatch
from feed.log_store.high_water import MarkFile
from feed.log_store.identity import LogIdentity
from feed.log_store.sqlite import SqliteLog
from feed.log_store.tree import LogTree
from feed.publish import Publisher
from feed.readings import Observed, find_last_change, register_readings
from feed.receipts import ReceiptLog
from feed.sequencer import KeyEpochs, Sequencer, SequencerLimits
from feed.signing.enrolment_tokens import EnrolmentTokens
from feed.signing.key_store import FeedKeys, audit_day_key, load_keys, prepare_subject_key
from feed.signing.log_signer import LogSigner
from feed.signing.subject_keys import SubjectKeys
from feed.snapshots import FileSnapshots
from feed.trace_export import open_tracing
from feed.tracing import Tracing
from feed.trust import ADMINISTRATOR, load_feed_trust, load_import_source, load_sources
from feed.witnessing import Witnessing
from hosting.addresses import Address, UnixAddress, format_address, parse_address
from hosting.certificates import OwnCertificate, watch_certificates
from hosting.clock import Clock, SystemClock
from hosting.grpc_errors import ErrorBoundary
from hosting.listeners import EXCLUSIVE_PORT_OPTIONS, bind_listener
from hosting.management import Management
from hosting.metrics.process import register_process
from hosting.metrics.pushing import pushing_where_told
from hosting.processes import disable_core_dumps, install_stop_signals
from hosting.servers import KeptServer
from hosting.settings.server import TlsFiles
from hosting.sockets import SocketLease
from hosting.tls import reloading_server_credentials

logger = logging.getLogger(__name__)

VERSION = version("consentry")
SERVICE_NAME = "consentry-feed"
MS_PER_DAY = 86_400_000
MAX_CHECKPOINT_AGE_SECONDS = 30.0
"""A feed whose newest checkpoint is older is not ready."""
_OPTIONS = (
    *EXCLUSIVE_PORT_OPTIONS,
    ("grpc.max_receive_message_length", policy_service.MAX_POLICY_MESSAGE_BYTES + 1024),
    ("grpc.max_concurrent_streams", 1000),
    # Sidecars ping every few seconds to notice a dead connection; without this gRPC would call it abuse.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(slots=True)
class RunningFeed:
    """A started feed.

    Attributes:
        log: Takes submissions.
        addresses: Where it listens: the sync listener first, then the sources, the administration, the import, the auditors.
        admin_log: Takes uses and refusals of privileges.
    """

    log: Sequencer
    addresses: list[Address]
    admin_log: AdminLog


@dataclass(frozen=True, slots=True)
class _IntakeSources:
    systems: list[Source]
    imports: Source


@dataclass(frozen=True, slots=True)
class _Listener:
    address: Address
    role: Role
    name: str
    register: Callable[[grpc.aio.Server], None]
    service_names: tuple[str, ...] = ()
    mode: int = 0o660
    certificate: OwnCertificate | None = None
    certificate_names: frozenset[str] | None = None
    reflect: bool = False


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is served out of one open log."""

    log: Sequencer
    observed: Observed
    sources: feed_service.FeedSources
    receipts: ReceiptIssuer
    backup: backup_service.BackupService
    audit: audit_service.AuditServicer
    subjects: subject_service.SubjectService
    admin_log: AdminLog


@asynccontextmanager
async def running_feed(
    settings: FeedSettings, *, clock: Clock | None = None, management: Management | None = None
) -> AsyncIterator[RunningFeed]:
    """Start a feed, and stop it with everything accepted committed.

    Args:
        settings: Validated settings.
        clock: The time; the machine's where it is not given.
        management: Shows metrics and readiness; started and stopped by whoever passes it.

    Raises:
        FeedError, HostingError: What stops the start; nothing is left running.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        tracing = stack.enter_context(open_tracing(settings.origin, VERSION, os.environ, clock))
        keys = load_keys(settings.event_log.keys_directory, settings.origin)
        trust = load_feed_trust(settings, keys.log_key.verifier_key)
        intake = _IntakeSources(load_sources(settings, trust), load_import_source(settings, trust))
        parts = await _open_log(stack, settings, keys, trust, clock)
        # On a Unix socket there is no certificate to read; who may open it, the file's mode says.
        sync_service = feed_service.FeedServicer(
            parts.sources,
            tenant=settings.tenant,
            trust_domain=settings.sync.trust_domain,
            max_stream_entries=settings.event_log.max_stream_entries,
            trusted_local=True,
        )
        # Servers stop, drained, before the log they submit to is closed, and leases are given back after every server.
        leases, servers = stack.enter_context(ExitStack()), list[KeptServer]()
        stack.push_async_callback(_stop_all, servers, settings.drain_seconds)
        listeners = _make_listeners(settings, parts, sync_service, keys, intake, clock, tracing)
        addresses = [await _serve(leases, listener, parts, servers) for listener in listeners]
        certificates = _observe(management or Management(), parts, listeners)
        # Not in a TaskGroup: what stops the log must reach `serve` as itself.
        stack.push_async_callback(_end, asyncio.create_task(watch_certificates(certificates)))
        # Pushed last, so that it runs first: streams never end by themselves, and servers need not wait for them.
        stack.callback(sync_service.close)
        if management is not None:
            stack.callback(management.drain)
        yield RunningFeed(parts.log, addresses, parts.admin_log)


def _observe(management: Management, parts: _Parts, listeners: "list[_Listener]") -> list[OwnCertificate]:
    """Make what runs readable; returns all certificates of its own."""
    registry = management.registry
    registry.clear()
    registry.add(*parts.log.meter.instruments)
    register_readings(registry, parts.observed)
    own = {format_address(listener.address): listener.certificate for listener in listeners}
    own["management"] = management.certificate
    register_process(registry, own)
    management.watch(parts.observed.readiness)
    return [certificate for certificate in own.values() if certificate is not None]


async def _open_log(
    stack: AsyncExitStack, settings: FeedSettings, keys: FeedKeys, trust: Trust, clock: Clock
) -> _Parts:
    """The log, which is closed when the stack unwinds, and what serves from it; its lock keeps other feeds out."""
    signer = LogSigner(keys.log_key, keys.cosigner_key, keys.next_keys)
    place = place_of(settings, keys)
    opened = await open_log(place)
    stack.push_async_callback(opened.close)
    store = opened.store
    log = _make_sequencer(settings, store, signer, place.subject_keys, trust, clock)
    # Closed after the log, so that the mark is that of the last entry.
    mark = MarkKeeper(place.marks, lambda: log.head).start()
    stack.push_async_callback(mark.close)
    log.watch(mark.notice)
    stack.push_async_callback(log.close)
    await log.start()
    log.meter.last_change_seq = await find_last_change(log)
    admin_log = AdminLog(log, clock, settings.origin, settings.event_log.admin_refusals_seconds)
    stack.push_async_callback(admin_log.close)
    snapshots = FileSnapshots.open(
        log,
        store,
        settings.event_log.directory / "snapshots",
        origin=settings.origin,
        # Half of what a stream may be behind, so that a sidecar with the oldest snapshot in use still gets a stream.
        max_lag_entries=max(1, settings.event_log.max_stream_entries // 2),
    )
    stack.push_async_callback(snapshots.close)
    progress = ProgressBook(store)
    await progress.load()
    stack.push_async_callback(progress.close)
    proofs = LogTree(store, lambda: log.head)
    desk = EnrolmentDesk(log, store, EnrolmentTokens(keys.kek, settings.origin), clock, settings.origin)
    await desk.load()
    receipts = ReceiptLog(log, store, desk, proofs.root_hash, settings.origin, settings.event_log.receipts_seconds)
    # What has come before the servers stopped is logged before the log is closed.
    stack.push_async_callback(receipts.close)
    heads, watch = await _open_journals(stack, settings, log, store, desk, progress, clock)
    witnesses = [witness.to_witness() for witness in settings.witnesses]
    witnessing = Witnessing(log, proofs, witnesses, settings.witness_seconds)
    witnessing.start()
    stack.push_async_callback(witnessing.close)
    losses = LossGuard(log, place.losses, place.accepted_losses, proofs)
    await losses.load()

    def key_ring() -> KeyRing:
        ring = keys.key_ring(clock.now_ms() // MS_PER_DAY)
        return replace(ring, subject_keys=place.subject_keys.begun(log.head.tenant))

    sources = feed_service.FeedSources(
        log=log,
        snapshots=snapshots,
        proofs=proofs,
        key_ring=key_ring,
        progress=progress,
        desk=desk,
        receipts=receipts,
        heads=heads,
        clock=clock,
        witnessing=witnessing,
        losses=losses,
    )
    backup = backup_service.BackupService(
        lambda: log.head, lambda head: write_backup(store, head, place.identity, place.kek), losses
    )
    trails = TrailMaker(log, store, proofs)
    audit = audit_service.AuditServicer(
        trails,
        log,
        store,
        audit_service.Fleet(desk, progress, watch),
        disclosure=Disclosure(
            log, Tokeniser((keys.subject_key,)), place.subject_keys, partial(audit_day_key, keys.audit_master)
        ),
        clock=clock,
        identity=audit_service.AuditIdentity(settings.tenant, settings.origin),
    )
    subjects = subject_service.SubjectService(
        log,
        KeyEpochs(log, store, place.subject_keys, settings.origin),
        Eraser(log, store, place.subject_keys, Publisher(log, clock, settings.origin), snapshots.discard),
        Tokeniser((keys.subject_key,)),
        origin=settings.origin,
        source=ADMINISTRATOR.name,
    )
    observed = Observed(
        log=log,
        progress=progress,
        receipts=receipts,
        backup=backup,
        witnessing=witnessing,
        losses=losses,
        clock=clock,
        head_ages=watch.head_ages_seconds,
        max_checkpoint_age_seconds=max(MAX_CHECKPOINT_AGE_SECONDS, 5 * settings.event_log.resign_seconds),
    )
    return _Parts(log, observed, sources, ReceiptIssuer(log, store, proofs), backup, audit, subjects, admin_log)


async def _open_journals(
    stack: AsyncExitStack,
    settings: FeedSettings,
    log: Sequencer,
    store: SqliteLog,
    desk: EnrolmentDesk,
    progress: ProgressBook,
    clock: Clock,
) -> tuple[JournalHeadLog, JournalWatch]:
    """What logs the heads of sidecars' journals, and what raises an alert where none come."""
    alerts = AlertLog(log, clock, settings.origin)

    def connected_once() -> set[str]:
        return {known.sidecar_id for known in progress.progress()}

    watch = JournalWatch(desk, store, alerts, connected_once, clock, settings.event_log.journal_silent_seconds)
    await watch.load()
    stack.push_async_callback(watch.start().close)
    heads = JournalHeadLog(
        log,
        store,
        desk,
        alerts,
        clock,
        settings.origin,
        period_seconds=settings.event_log.journal_heads_seconds,
        on_logged=watch.note_head,
    )
    stack.push_async_callback(heads.close)
    return heads, watch


def place_of(settings: FeedSettings, keys: FeedKeys) -> LogPlace:
    """Where the settings say that the log and its safeguards lie."""
    identity = LogIdentity(settings.origin, settings.tenant, keys.log_verifier_keys)
    path = settings.event_log.high_water_path
    return LogPlace(
        settings.event_log.directory,
        settings.event_log.archive_directory,
        MarkFile(path, keys.kek, identity.key_context),
        MarkFile(path.with_name(f"{path.name}.lost"), keys.kek, identity.key_context, "reported-loss"),
        MarkFile(path.with_name(f"{path.name}.accepted"), keys.kek, identity.key_context, "accepted-loss"),
        identity,
        keys.kek,
        SubjectKeys(
            (keys.subject_key, *keys.later_subject_keys),
            partial(prepare_subject_key, settings.event_log.keys_directory),
        ),
    )


def _make_sequencer(
    settings: FeedSettings, store: SqliteLog, signer: LogSigner, subject_keys: SubjectKeys, trust: Trust, clock: Clock
) -> Sequencer:
    limits = SequencerLimits(
        resign_seconds=settings.event_log.resign_seconds, max_waiting_requests=settings.event_log.max_waiting_requests
    )
    return Sequencer(
        store,
        signer,
        clock,
        origin=settings.origin,
        subject_keys=subject_keys,
        authority=Authority(trust),
        limits=limits,
    )


def _make_listeners(
    settings: FeedSettings,
    parts: _Parts,
    sync_service: feed_service.FeedServicer,
    keys: FeedKeys,
    sources: _IntakeSources,
    clock: Clock,
    tracing: Tracing,
) -> list[_Listener]:
    log, losses = parts.log, parts.sources.losses
    publisher = Publisher(log, clock, settings.origin, tracing)
    # Intake speaks of epoch 0, so that a repeated request is the same in any; the log leads tokens on.
    recorder = Recorder(log, publisher, Tokeniser((keys.subject_key,)))
    identity = policy_service.FeedIdentity(settings.tenant, settings.origin, VERSION)
    administration = policy_service.PolicyService(
        publisher,
        log,
        ADMINISTRATOR.name,
        identity,
        parts.sources.progress.progress,
        lambda: losses.loss if losses is not None else None,
    )
    enrolment = enrolment_service.EnrolmentServicer(parts.sources.desk, ADMINISTRATOR.name)

    def intake(source: Source) -> grpc.GenericRpcHandler:
        return intake_service.intake_handler(intake_service.IntakeService(recorder, source, parts.receipts, tracing))

    sync = _Listener(
        settings.sync.parsed_address,
        Role.SIDECAR,
        Role.SIDECAR.value,
        # Whoever can open the socket of a feed without certificates gets the tenant's keys: its own user alone.
        mode=0o600,
        register=partial(feed_service.add_feed_service, sync_service),
        certificate=_load_certificate(settings.sync.tls, clock),
    )
    intakes = [
        _Listener(
            parse_address(source_settings.address),
            Role.SOURCE,
            source.name,
            _handlers(intake(source)),
            certificate=_load_certificate(source_settings.tls, clock),
            certificate_names=frozenset(source_settings.certificate_names) if source_settings.tls is not None else None,
        )
        for source_settings, source in zip(settings.sources, sources.systems, strict=True)
    ]
    administer = _handlers(
        policy_service.policy_handler(administration),
        intake(ADMINISTRATOR),
        backup_service.backup_handler(parts.backup),
        subject_service.subject_handler(parts.subjects),
    )

    def register_administration(server: grpc.aio.Server) -> None:
        administer(server)
        audit_service.add_audit_service(parts.audit, server)
        enrolment_service.add_enrolment_service(enrolment, server)

    admin = _Listener(
        parse_address(settings.admin_address),
        Role.ADMINISTRATOR,
        ADMINISTRATOR.name,
        register_administration,
        (
            policy_service.SERVICE_NAME,
            intake_service.SERVICE_NAME,
            backup_service.SERVICE_NAME,
            audit_service.SERVICE_NAME,
            enrolment_service.SERVICE_NAME,
            subject_service.SERVICE_NAME,
        ),
        mode=0o600,
        reflect=settings.reflection,
    )
    listeners = [sync, *intakes, admin]
    if settings.import_address is not None:
        address = parse_address(settings.import_address)
        importing = _handlers(intake(sources.imports))
        listeners.append(_Listener(address, Role.IMPORTER, sources.imports.name, importing, mode=0o600))
    if settings.audit is not None:
        listeners.append(_make_audit_listener(settings.audit, parts.audit, clock))
    return listeners


def _make_audit_listener(
    settings: AuditListenerSettings, service: audit_service.AuditServicer, clock: Clock
) -> _Listener:
    return _Listener(
        parse_address(settings.address),
        Role.AUDITOR,
        Role.AUDITOR.value,
        partial(audit_service.add_audit_service, service),
        mode=0o600,
        certificate=_load_certificate(settings.tls, clock),
        certificate_names=frozenset(settings.certificate_names) if settings.tls is not None else None,
    )


def _load_certificate(tls: TlsFiles | None, clock: Clock) -> OwnCertificate | None:
    if tls is None:
        return None
    return OwnCertificate(tls.cert_file, tls.key_file, tls.ca_file, clock=clock, warning_days=tls.expiry_warning_days)


def _handlers(*handlers: grpc.GenericRpcHandler) -> Callable[[grpc.aio.Server], None]:
    return lambda server: server.add_generic_rpc_handlers(handlers)


async def _serve(leases: ExitStack, listener: _Listener, parts: _Parts, servers: list[KeptServer]) -> Address:
    address = listener.address
    lease = leases.enter_context(SocketLease(address.path)) if isinstance(address, UnixAddress) else None
    credentials = reloading_server_credentials(listener.certificate) if listener.certificate is not None else None

    def bind() -> grpc.aio.Server:
        # Whatever the kernel chose first, a server that takes another one's place listens there too.
        nonlocal address
        server = _build_server(listener, parts)
        address = bind_listener(server, address, credentials)
        if lease is not None:
            lease.publish(listener.mode)
        return server

    server = KeptServer(bind)
    servers.append(server)
    await server.start()
    return address


def _build_server(listener: _Listener, parts: _Parts) -> grpc.aio.Server:
    admin_log, recorded = parts.admin_log, Listener(listener.role, listener.name, listener.certificate_names)
    interceptors = (
        ErrorBoundary(STATUSES, parts.log.meter.count_refusal),
        RefusalRecorder(admin_log, recorded),
        RoleGuard(listener.role, listener.certificate_names),
        UseRecorder(admin_log, recorded),
    )
    server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
    listener.register(server)
    if listener.reflect:
        reflection.enable_server_reflection((*listener.service_names, reflection.SERVICE_NAME), server)
    return server


async def _stop_all(servers: list[KeptServer], drain_seconds: float) -> None:
    """All at once: none takes new work while another one drains."""
    await asyncio.gather(*(server.stop(drain_seconds) for server in servers))


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def serve(settings: FeedSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    disable_core_dumps()
    stop = install_stop_signals(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        management = Management(settings.management)
        stack.push_async_callback(management.stop)
        await management.start()
        pushing = pushing_where_told(management.registry, settings.tenant, VERSION, SERVICE_NAME, os.environ)
        await stack.enter_async_context(pushing)
        running = await stack.enter_async_context(running_feed(settings, management=management))
        fields = {"tenant": settings.tenant, "log_size": running.log.head.size, "listeners": len(running.addresses)}
        logger.info("listening", extra={"fields": fields})
        waiting = {asyncio.create_task(stop.wait()), asyncio.create_task(running.log.wait())}
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        # A log that had to stop ends the program, with what stopped it.
        for task in done:
            task.result()
        logger.info("draining")
