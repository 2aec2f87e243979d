"""The composition root: the only place that builds adapters and starts tasks."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import grpc

from consent.eventlog.journal_head import JournalDisposal, sign_disposal
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.trust import Trust
from consent.policy import Policy
from hosting.addresses import Address, UnixAddress, format_address, parse_address
from hosting.bootstrap_policy import load_bootstrap_policy
from hosting.certificates import OwnCertificate, watch_certificates
from hosting.clock import Clock, SystemClock, read_boot_id
from hosting.listeners import bind_listener
from hosting.management import Management
from hosting.metrics.process import register_process
from hosting.metrics.pushing import pushing_where_told
from hosting.processes import collect_rarely, disable_core_dumps, install_stop_signals
from hosting.servers import KeptServer
from hosting.settings.server import TlsFiles
from hosting.sockets import SocketLease
from hosting.tls import reloading_server_credentials
from hosting.trust_files import load_trust
from journal.start import StartNote
from sidecar.cache.key_file import load_key_files
from sidecar.cache.store import CacheIdentity, EncryptedCache
from sidecar.check import Caller, Checker, Detail
from sidecar.config import Method, SidecarSettings
from sidecar.errors import KeyServiceUnavailable
from sidecar.grpc_api.decision_service import CallerDirectory, DecisionService, decision_handler
from sidecar.grpc_api.journal_service import Auditors, JournalService, JournalSource, ReaderLimit, journal_handler
from sidecar.grpc_api.server import Health, build_server
from sidecar.journal.applied_notes import AppliedNotes
from sidecar.journal.disposal import Disposer
from sidecar.journal.durability import follow_policy, permit, report
from sidecar.journal.head_outbox import LOGGED_FILE_NAME, HeadOutbox
from sidecar.journal.heads import ChainPlan
from sidecar.journal.recovery import ChainRecovery
from sidecar.journal.retention import RetentionPlanner, RetentionRule
from sidecar.journal.writer import FileJournal
from sidecar.key_providers.loading import load_key_service
from sidecar.ports import HeadSource, KeyProvider, SidecarStatus
from sidecar.readings import Observed, read_stale_limit_seconds, register_readings
from sidecar.start_note import make_start_note
from sidecar.supervision import end_supervisors, supervise_shipper
from sidecar.sync.backoff import Backoff
from sidecar.sync.feed_client import GrpcFeed
from sidecar.sync.follower import Follower, FollowerIdentity
from sidecar.sync.freshness import age_ms, anchor
from sidecar.sync.journal_heads import JournalHeadSender
from sidecar.sync.trusted_log import TrustedLog
from sidecar.telemetry.metrics import CheckMeter

logger = logging.getLogger(__name__)

READINESS_PERIOD_SECONDS = 1.0
VERSION = version("consentry")

_ADMINISTRATOR = Caller(
    "administrator", frozenset({"*"}), frozenset(method.value for method in Method), Detail.FULL, may_use_tokens=True
)


@dataclass(slots=True)
class RunningSidecar:
    """A started sidecar.

    Attributes:
        cache: What is held.
        bootstrap_policy: In force before the first snapshot, None for none.
        follower: Keeps it up with the feed.
        journal: The record.
        addresses: Where it listens, in the order of the settings, then the administration, then the auditors.
        report: What GetStatus says.
    """

    cache: EncryptedCache
    follower: Follower
    journal: FileJournal
    addresses: list[Address]
    settings: SidecarSettings
    trust: Trust
    clock: Clock
    boot_id: str
    bootstrap_policy: Policy | None

    def report(self) -> SidecarStatus:
        """What the sidecar says of itself."""
        cache = self.cache
        return SidecarStatus(
            sidecar_id=self.settings.sidecar_id,
            tenant=self.trust.tenant,
            origin=self.trust.origin,
            head=cache.head,
            staleness_ms=age_ms(cache.head.checkpoint, self.clock, self.boot_id),
            generation=cache.generation,
            sync_state=self.follower.state,
            last_error_reason=self.follower.last_error_reason,
            subject_count=cache.subject_count,
            journal_backlog_records=self.journal.backlog_records,
            journal_mode=self.journal.mode,
            version=VERSION,
            is_enrolled=self.follower.enrolment.is_enrolled,
            key_id=self.follower.enrolment.key.key_id,
            unconfirmed_receipts=len(cache.unconfirmed),
        )

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        return _policy_in_force(self.cache, self.bootstrap_policy)

    def readiness(self) -> dict[str, bool]:
        """What readiness consists of: verified data within the hard limit, with the keys and the policy that a check needs."""
        cache = self.cache
        age, limit_seconds = age_ms(cache.head.checkpoint, self.clock, self.boot_id), read_stale_limit_seconds(cache)
        return {
            "policy": limit_seconds is not None,
            "verified_data": age is not None,
            "fresh_data": age is not None and limit_seconds is not None and age <= 1000 * limit_seconds,
            "key_ring": cache.key_ring is not None,
            "cache_intact": cache.is_intact,
            "journal_writable": self.journal.is_writable,
        }

    def is_ready(self) -> bool:
        """Whether all of it holds."""
        return all(self.readiness().values())


@asynccontextmanager
async def running_sidecar(
    settings: SidecarSettings,
    *,
    clock: Clock | None = None,
    boot_id: str | None = None,
    management: Management | None = None,
) -> AsyncIterator[RunningSidecar]:
    """Start a sidecar, and stop it with all calls drained.

    Args:
        settings: Validated settings.
        clock: The time; the machine's where it is not given.
        boot_id: Which boot the clock belongs to.
        management: Shows metrics and readiness; started and stopped by whoever passes it.

    Raises:
        SidecarError, HostingError: What stops the start; nothing is left running.
    """
    clock, boot_id, wake = clock or SystemClock(), boot_id or read_boot_id(), asyncio.Event()
    management = management or Management()
    async with AsyncExitStack() as stack:
        # 1. What is trusted, before anything is opened.
        trust = load_trust(settings.trust.file, settings.trust.root_key_file)
        bootstrap_policy = _load_bootstrap_policy(settings, trust, clock)
        # 2. What is kept: the cache first, since its lock says that no other sidecar has these files.
        keys = await asyncio.to_thread(_open_keys, settings)
        cache = await _open_cache(settings, keys, trust, clock)
        stack.push_async_callback(cache.close)
        if (seen := cache.head.checkpoint) is not None:
            await cache.save_checkpoint(replace(cache.head, checkpoint=anchor(seen, clock, boot_id)))
        certificate, listeners = _load_certificate(settings.feed.tls, clock), _make_listeners(settings, clock)
        own = {"feed": certificate} | {format_address(item.address): item.certificate for item in listeners}
        certificates = {use: known for use, known in own.items() if known is not None}
        plan = _plan_chain(settings, cache, trust, make_start_note(settings, certificates, VERSION, clock))
        policy = _policy_in_force(cache, bootstrap_policy)
        journal = stack.enter_context(_open_journal(settings, keys, clock, plan, policy))
        # 3. What follows the feed.
        feed = GrpcFeed(settings.feed.address, certificate, settings.sidecar_id, VERSION)
        stack.push_async_callback(feed.close)
        trusted = TrustedLog(trust, cache.head)
        follower = _make_follower(settings, feed, cache, trusted, clock, boot_id, wake)
        follower.note_applied = AppliedNotes(journal, clock, trust.origin).note
        running = RunningSidecar(cache, follower, journal, [], settings, trust, clock, boot_id, bootstrap_policy)
        # 4. What answers.
        checker, health = Checker(cache, journal, clock, boot_id, trust.origin, bootstrap_policy), Health()
        await health.set_ready(is_ready=running.is_ready())
        source = JournalSource(settings.sidecar_id, settings.journal.directory, keys, journal, clock)
        audited = partial(JournalService, source, limit=ReaderLimit())

        def decide(callers: CallerDirectory) -> DecisionService:
            return DecisionService(checker, callers, cache, trusted, feed, clock, running.report, trust.origin)

        serving = _Serving(settings, health, decide, audited, checker.meter.count_refusal)
        running.addresses += await serving.start(stack, listeners)
        # 5. What can be read.
        watched = _observe(running, management, checker.meter, certificates, plan.outbox)
        # 6. The tasks; leaving the context cancels them before anything they use is closed.
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        started = [
            *_start_journal_tasks(tasks, settings, running, feed, keys, plan.outbox),
            tasks.create_task(follower.run()),
            tasks.create_task(_watch_readiness(running, health, wake)),
            tasks.create_task(watch_certificates(watched)),
        ]
        try:
            yield running
        finally:
            management.drain()
            await health.drain()
            for task in started:
                task.cancel()


def _observe(
    running: RunningSidecar,
    management: Management,
    meter: CheckMeter,
    certificates: Mapping[str, OwnCertificate],
    outbox: HeadOutbox,
) -> list[OwnCertificate]:
    """Make what runs readable; returns all certificates of its own."""
    settings, registry = running.settings, management.registry
    # Another start of this program may have come this far, and failed.
    registry.clear()
    registry.add(*meter.instruments, *running.follower.meter.instruments)
    observed = Observed(
        cache=running.cache,
        follower=running.follower,
        journal=running.journal,
        is_ready=running.is_ready,
        cache_directory=settings.cache.directory,
        journal_directory=settings.journal.directory,
        clock=running.clock,
        boot_id=running.boot_id,
        heads_unlogged=outbox.count_waiting,
    )
    register_readings(registry, observed)
    own = {**certificates, "management": management.certificate}
    register_process(registry, own)
    management.watch(running.readiness)
    return [certificate for certificate in own.values() if certificate is not None]


def _load_bootstrap_policy(settings: SidecarSettings, trust: Trust, clock: Clock) -> Policy | None:
    file = settings.bootstrap_policy_file
    return load_bootstrap_policy(file, trust, clock.now_ms() // 1000) if file is not None else None


def load_keys(settings: SidecarSettings) -> KeyProvider:
    """The key-encryption keys of cache and journal."""
    service = settings.cache.aws_kms or settings.cache.vault_transit
    if service is not None:
        return load_key_service(service, settings.sidecar_id, SystemClock())
    return load_key_files(
        settings.cache.key_files,
        create_for_development=settings.cache.create_key,
        cache_directory=settings.cache.directory,
    )


def _open_keys(settings: SidecarSettings) -> KeyProvider:
    keys = load_keys(settings)
    keys.refresh()
    return keys


async def _open_cache(settings: SidecarSettings, keys: KeyProvider, trust: Trust, clock: Clock) -> EncryptedCache:
    return await EncryptedCache.open(
        settings.cache.directory,
        keys,
        CacheIdentity(settings.sidecar_id, trust.tenant, trust.origin),
        high_water_path=settings.cache.high_water_file,
        clock=clock,
        merge_after_entries=settings.cache.merge_after_entries,
        key_check_seconds=settings.cache.key_check_seconds,
    )


def _policy_in_force(cache: EncryptedCache, bootstrap_policy: Policy | None) -> Policy | None:
    return cache.policy if cache.head.checkpoint is not None else bootstrap_policy


def _plan_chain(settings: SidecarSettings, cache: EncryptedCache, trust: Trust, start: StartNote) -> ChainPlan:
    journal = settings.journal
    return ChainPlan(
        key=generate_signing_key(settings.sidecar_id, KeyKind.SIDECAR, cache.signing_seed),
        origin=trust.origin,
        outbox=HeadOutbox(journal.directory / LOGGED_FILE_NAME),
        head_seconds=journal.head_seconds,
        idle_head_seconds=journal.idle_head_seconds,
        segment_max_seconds=journal.segment_max_seconds,
        start=start,
    )


@contextmanager
def _open_journal(
    settings: SidecarSettings, keys: KeyProvider, clock: Clock, plan: ChainPlan, policy: Policy | None
) -> Iterator[FileJournal]:
    """This process's chain, and in the background what earlier ones have left."""
    asked, directory = settings.journal.durability, settings.journal.directory
    in_effect = permit(asked, policy)
    report(asked, in_effect)
    journal = FileJournal.open(
        directory,
        keys,
        settings.sidecar_id,
        in_effect.mode,
        clock,
        segment_max_bytes=settings.journal.segment_max_bytes,
        on_unavailable=in_effect.on_unavailable,
        plan=plan,
    )
    with contextlib.closing(journal), ChainRecovery(directory, keys, journal, plan, clock):
        yield journal


def _make_follower(
    settings: SidecarSettings,
    feed: GrpcFeed,
    cache: EncryptedCache,
    trusted: TrustedLog,
    clock: Clock,
    boot_id: str,
    wake: asyncio.Event,
) -> Follower:
    identity = FollowerIdentity(settings.sidecar_id, trusted.tenant, settings.enrolment_token_file)
    backoff = Backoff(settings.feed.backoff_first_ms / 1000, settings.feed.backoff_most_ms / 1000)
    return Follower(feed, cache, trusted, identity, clock, boot_id, backoff, wake.set)


def _start_journal_tasks(
    tasks: asyncio.TaskGroup,
    settings: SidecarSettings,
    running: RunningSidecar,
    feed: GrpcFeed,
    keys: KeyProvider,
    heads: HeadSource,
) -> list[asyncio.Task[None]]:
    """What brings heads of the journal to the feed, and what disposes of old segments where the settings say so."""
    journal, enrolment, origin = settings.journal, running.follower.enrolment, running.trust.origin
    backoff = Backoff(settings.feed.backoff_first_ms / 1000, settings.feed.backoff_most_ms / 1000)
    started = [tasks.create_task(JournalHeadSender(feed, heads, enrolment, origin, backoff).run())]
    if journal.retention_days is None and journal.retention_max_bytes is None:
        return started

    def sign(disposal: JournalDisposal) -> JournalDisposal | None:
        return sign_disposal(disposal, enrolment.key, origin) if enrolment.is_enrolled else None

    rule = RetentionRule(journal.retention_days, journal.retention_max_bytes, only_shipped=journal.ship)
    disposer = Disposer(
        journal.directory,
        RetentionPlanner(journal.directory, keys, heads, rule),
        feed,
        running.journal,
        sign,
        settings.sidecar_id,
        running.clock,
        journal.retention_check_seconds,
    )
    return [*started, tasks.create_task(disposer.run())]


@dataclass(frozen=True, slots=True)
class _Listener:
    address: Address
    callers: Mapping[str | None, Caller]
    mode: int = 0o660
    certificate: OwnCertificate | None = None
    auditors: Auditors | None = None


def _make_listeners(settings: SidecarSettings, clock: Clock) -> list[_Listener]:
    listeners = [
        _Listener(
            listener.parsed_address,
            {caller.identity: caller.to_caller() for caller in listener.callers},
            certificate=_load_certificate(listener.tls, clock),
        )
        for listener in settings.listeners
    ]
    if settings.admin_address is not None:
        address, auditors = parse_address(settings.admin_address), Auditors(_ADMINISTRATOR.name)
        listeners.append(_Listener(address, {None: _ADMINISTRATOR}, mode=0o600, auditors=auditors))
    if settings.audit is not None:
        audit, names = settings.audit, frozenset(settings.audit.auditors)
        listeners.append(
            _Listener(
                parse_address(audit.address),
                {},
                mode=0o600,
                certificate=_load_certificate(audit.tls, clock),
                auditors=Auditors("auditor", names if audit.tls is not None else None),
            )
        )
    return listeners


@dataclass(frozen=True, slots=True)
class _Serving:
    """What every listener serves, and how its server is started."""

    settings: SidecarSettings
    health: Health
    decide: Callable[[CallerDirectory], DecisionService]
    audited: Callable[[Auditors], JournalService]
    on_refusal: Callable[[str], None]

    async def start(self, stack: AsyncExitStack, listeners: Sequence[_Listener]) -> list[Address]:
        """Start a server for each listener; leaving the stack stops all of them."""
        # Leases are given back after every server has stopped.
        leases, servers = stack.enter_context(ExitStack()), list[KeptServer]()
        stack.push_async_callback(_stop_all, servers, self.settings.drain_seconds)
        return [await self._serve(leases, listener, servers) for listener in listeners]

    async def _serve(self, leases: ExitStack, listener: _Listener, servers: list[KeptServer]) -> Address:
        address, certificate = listener.address, listener.certificate
        lease = leases.enter_context(SocketLease(address.path)) if isinstance(address, UnixAddress) else None
        credentials = reloading_server_credentials(certificate) if certificate is not None else None
        handlers = self._make_handlers(listener)

        def bind() -> grpc.aio.Server:
            # Whatever the kernel chose first, a server that takes another one's place listens there too.
            nonlocal address
            server = build_server(handlers, self.health, reflect=self.settings.reflection, on_refusal=self.on_refusal)
            address = bind_listener(server, address, credentials)
            if lease is not None:
                lease.publish(listener.mode)
            return server

        server = KeptServer(bind)
        servers.append(server)
        await server.start()
        return address

    def _make_handlers(self, listener: _Listener) -> list[grpc.GenericRpcHandler]:
        handlers = [decision_handler(self.decide(CallerDirectory(listener.callers)))] if listener.callers else []
        if listener.auditors is not None:
            handlers.append(journal_handler(self.audited(listener.auditors)))
        return handlers


async def _stop_all(servers: list[KeptServer], drain_seconds: float) -> None:
    """All at once: none takes new work while another one drains."""
    await asyncio.gather(*(server.stop(drain_seconds) for server in servers))


def _load_certificate(tls: TlsFiles | None, clock: Clock) -> OwnCertificate | None:
    if tls is None:
        return None
    return OwnCertificate(tls.cert_file, tls.key_file, tls.ca_file, clock=clock, warning_days=tls.expiry_warning_days)


async def _watch_readiness(running: RunningSidecar, health: Health, wake: asyncio.Event) -> None:
    was_ready: bool | None = None
    while True:
        wake.clear()
        follow_policy(running.journal, running.settings.journal.durability, running.policy)
        is_ready = running.is_ready()
        if is_ready != was_ready:
            fields = {"log_size": running.cache.head.size, "sync_state": running.follower.state.value}
            logger.info("ready" if is_ready else "not ready", extra={"fields": fields})
            await health.set_ready(is_ready=is_ready)
            was_ready = is_ready
        try:
            # Data also grows too old while nothing happens.
            async with asyncio.timeout(READINESS_PERIOD_SECONDS):
                await wake.wait()
        except TimeoutError:
            continue


async def serve(settings: SidecarSettings, ship_arguments: list[str]) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        settings: Validated settings.
        ship_arguments: Arguments with which this program runs as the shipper of its own journal.
    """
    disable_core_dumps()
    collect_rarely()
    stop = install_stop_signals(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        shipping, supervisors = settings.journal.ship, list[asyncio.Task[None]]()
        if shipping:
            # Pushed first, so that it runs last: the journal is closed and complete when the shipper drains it.
            stack.push_async_callback(end_supervisors, supervisors)
        management = Management(settings.management)
        stack.push_async_callback(management.stop)
        await management.start()
        pushing = pushing_where_told(management.registry, settings.sidecar_id, VERSION, "consentry-sidecar", os.environ)
        await stack.enter_async_context(pushing)
        running = await _start_patiently(stack, settings, stop, management)
        if running is None:
            return
        if shipping:
            # Not before the cache's lock says that no other sidecar, with a shipper of its own, has these files.
            supervisors.append(asyncio.create_task(supervise_shipper(ship_arguments)))
            supervisors[0].add_done_callback(lambda _: stop.set())
        logger.info(
            "listening", extra={"fields": {"sidecar_id": settings.sidecar_id, "listeners": len(running.addresses)}}
        )
        await stop.wait()
        logger.info("draining")


async def _start_patiently(
    stack: AsyncExitStack, settings: SidecarSettings, stop: asyncio.Event, management: Management | None = None
) -> RunningSidecar | None:
    """Start, again and again while the key service is away; None if `stop` is set before that."""
    backoff = Backoff(0.5, 30)
    while not stop.is_set():
        try:
            return await stack.enter_async_context(running_sidecar(settings, management=management))
        except KeyServiceUnavailable as error:
            logger.error("not started yet, tried again: %s: %s", error.reason, error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(backoff.next_seconds()):
                await stop.wait()
    return None
