"""The composition root: the only place that builds adapters and starts tasks."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version

import grpc

from consent.eventlog.trust import Trust
from hosting.addresses import Address, UnixAddress, format_address, parse_address
from hosting.certificates import OwnCertificate, watch_certificates
from hosting.clock import Clock, SystemClock, read_boot_id
from hosting.listeners import bind_listener
from hosting.management import Management
from hosting.metrics.otlp import pushing_metrics
from hosting.metrics.process import register_process
from hosting.processes import collect_rarely, disable_core_dumps, install_stop_signals
from hosting.servers import KeptServer
from hosting.settings.server import TlsFiles
from hosting.sockets import SocketLease
from hosting.telemetry.resource import build_resource
from hosting.tls import reloading_server_credentials
from hosting.trust_files import load_trust
from sidecar.bootstrap import load_bootstrap_policy
from sidecar.cache.key_file import load_key_files
from sidecar.cache.store import CacheIdentity, EncryptedCache
from sidecar.check import Caller, Checker, Detail
from sidecar.config import Method, SidecarSettings
from sidecar.errors import KeyServiceUnavailable, ShipperMisconfigured
from sidecar.grpc_api.decision_service import CallerDirectory, DecisionService, decision_handler
from sidecar.grpc_api.server import Health, build_server
from sidecar.journal.writer import FileJournal
from sidecar.key_providers.loading import load_key_service
from sidecar.ports import KeyProvider, SidecarStatus
from sidecar.readings import Observed, read_stale_limit_seconds, register_readings
from sidecar.sync.backoff import Backoff
from sidecar.sync.feed_client import GrpcFeed
from sidecar.sync.follower import Follower, FollowerIdentity
from sidecar.sync.freshness import age_ms, anchor
from sidecar.sync.trusted_log import TrustedLog
from sidecar.telemetry.metrics import CheckMeter

logger = logging.getLogger(__name__)

READINESS_PERIOD_SECONDS = 1.0
SHIPPER_STOP_SECONDS = 10.0
EXIT_MISCONFIGURED = 2
PARENT_VARIABLE = "CONSENTRY_SIDECAR_PARENT_PID"
"""Tells a shipper whose it is: it ends with its sidecar."""
VERSION = version("consentry")

_ADMINISTRATOR = Caller(
    "administrator", frozenset({"*"}), frozenset(method.value for method in Method), Detail.FULL, may_use_tokens=True
)


@dataclass(slots=True)
class RunningSidecar:
    """A started sidecar.

    Attributes:
        cache: What is held.
        follower: Keeps it up with the feed.
        journal: The record.
        addresses: Where it listens, in the order of the settings, the administration last.
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
            journal_mode=self.settings.journal.mode,
            version=VERSION,
            is_enrolled=self.follower.enrolment.is_enrolled,
            key_id=self.follower.enrolment.key.key_id,
            unconfirmed_receipts=len(cache.unconfirmed),
        )

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
        policy_file = settings.bootstrap_policy_file
        bootstrap_policy = (
            load_bootstrap_policy(policy_file, trust, clock.now_ms() // 1000) if policy_file is not None else None
        )
        # 2. What is kept: the cache first, since its lock says that no other sidecar has these files.
        keys = await asyncio.to_thread(load_keys, settings)
        await asyncio.to_thread(keys.refresh)
        cache = await _open_cache(settings, keys, trust, clock)
        stack.push_async_callback(cache.close)
        if (seen := cache.head.checkpoint) is not None:
            await cache.save_checkpoint(replace(cache.head, checkpoint=anchor(seen, clock, boot_id)))
        journal = _open_journal(settings, keys, clock)
        stack.callback(journal.close)
        # 3. What follows the feed.
        certificate = _load_certificate(settings.feed.tls, clock)
        feed = GrpcFeed(settings.feed.address, certificate, settings.sidecar_id, VERSION)
        stack.push_async_callback(feed.close)
        trusted = TrustedLog(trust, cache.head)
        follower = _make_follower(settings, feed, cache, trusted, clock, boot_id, wake)
        running = RunningSidecar(cache, follower, journal, [], settings, trust, clock, boot_id)
        # 4. What answers.
        checker, health = Checker(cache, journal, clock, boot_id, trust.origin, bootstrap_policy), Health()
        await health.set_ready(is_ready=running.is_ready())
        # Leases are given back after every server has stopped.
        leases, servers = stack.enter_context(ExitStack()), list[KeptServer]()
        stack.push_async_callback(_stop_all, servers, settings.drain_seconds)
        listeners = _make_listeners(settings, clock)
        for listener in listeners:
            callers = CallerDirectory(listener.callers)
            service = DecisionService(checker, callers, cache, trusted, feed, clock, running.report, trust.origin)
            running.addresses.append(await _serve(leases, settings, listener, service, health, servers))
        # 5. What can be read.
        certificates = _observe(running, management, checker.meter, certificate, listeners)
        # 6. The tasks; leaving the context cancels them before anything they use is closed.
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        started = [
            tasks.create_task(follower.run()),
            tasks.create_task(_watch_readiness(running, health, wake)),
            tasks.create_task(watch_certificates(certificates)),
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
    feed_certificate: OwnCertificate | None,
    listeners: "list[_Listener]",
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
    )
    register_readings(registry, observed)
    own = {format_address(listener.address): listener.certificate for listener in listeners}
    own |= {"feed": feed_certificate, "management": management.certificate}
    register_process(registry, own)
    management.watch(running.readiness)
    return [certificate for certificate in own.values() if certificate is not None]


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


def _open_journal(settings: SidecarSettings, keys: KeyProvider, clock: Clock) -> FileJournal:
    journal = settings.journal
    return FileJournal.open(
        journal.directory,
        keys,
        settings.sidecar_id,
        journal.mode,
        clock,
        segment_max_bytes=journal.segment_max_bytes,
        on_unavailable=journal.on_unavailable,
    )


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


@dataclass(frozen=True, slots=True)
class _Listener:
    address: Address
    callers: Mapping[str | None, Caller]
    mode: int = 0o660
    certificate: OwnCertificate | None = None


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
        listeners.append(_Listener(parse_address(settings.admin_address), {None: _ADMINISTRATOR}, mode=0o600))
    return listeners


async def _serve(
    leases: ExitStack,
    settings: SidecarSettings,
    listener: _Listener,
    service: DecisionService,
    health: Health,
    servers: list[KeptServer],
) -> Address:
    """Start a server; `_stop_all` stops it before its lease is given back."""
    address, certificate = listener.address, listener.certificate
    lease = leases.enter_context(SocketLease(address.path)) if isinstance(address, UnixAddress) else None
    credentials = reloading_server_credentials(certificate) if certificate is not None else None

    def bind() -> grpc.aio.Server:
        # Whatever the kernel chose first, a server that takes another one's place listens there too.
        nonlocal address
        server = build_server(
            [decision_handler(service)], health, reflect=settings.reflection, on_refusal=service.meter.count_refusal
        )
        address = bind_listener(server, address, credentials)
        if lease is not None:
            lease.publish(listener.mode)
        return server

    server = KeptServer(bind)
    servers.append(server)
    await server.start()
    return address


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
            stack.push_async_callback(_end_supervisors, supervisors)
        management = Management(settings.management)
        stack.push_async_callback(management.stop)
        await management.start()
        resource = build_resource(settings.sidecar_id, VERSION, os.environ)
        await stack.enter_async_context(pushing_metrics(management.registry, resource, os.environ))
        running = await _start_patiently(stack, settings, stop, management)
        if running is None:
            return
        if shipping:
            # Not before the cache's lock says that no other sidecar, with a shipper of its own, has these files.
            supervisors.append(asyncio.create_task(_supervise_shipper(ship_arguments)))
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


async def _end_supervisors(tasks: "list[asyncio.Task[None]]") -> None:
    """Stop the shipper, if it was started; raises what ended it before, if it was not asked to end."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _supervise_shipper(arguments: list[str]) -> None:
    """Keep a shipper running in a process of its own, so that exporting costs the check path nothing.

    Raises:
        ShipperMisconfigured: It refused its settings; started anew, it would refuse them again.
    """
    backoff = Backoff(0.5, 30)
    command = (sys.executable, "-m", "sidecar", *arguments)
    environ = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    while True:
        code: int | None = None
        with contextlib.suppress(OSError):
            process = await asyncio.create_subprocess_exec(*command, env=environ)
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await _stop_process(process)
                raise
        if code == EXIT_MISCONFIGURED:
            raise ShipperMisconfigured("the shipper cannot start with these settings; its own message says why")
        logger.error("the shipper ended and is started anew", extra={"fields": {"exit_code": code}})
        await asyncio.sleep(backoff.next_seconds())


async def _stop_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(SHIPPER_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
