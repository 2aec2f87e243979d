"""What metrics read when somebody looks: of the cache, the follower, the journal and the keys."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosting.clock import Clock
from hosting.metrics import Registry
from sidecar.cache.store import EncryptedCache
from sidecar.journal.shipper_status import STATUS_FILE_NAME, MalformedShipperStatus, ShipperStatus, load_status
from sidecar.journal.writer import FileJournal
from sidecar.ports import SyncState
from sidecar.sync.follower import MS_PER_DAY, Follower
from sidecar.sync.freshness import age_ms
from sidecar.telemetry import families


@dataclass(frozen=True, slots=True)
class Observed:
    """What is read.

    Attributes:
        cache: What is held.
        follower: Keeps it up with the feed.
        journal: The record.
        is_ready: Whether the sidecar is.
        cache_directory: Where the cache lies.
        journal_directory: Where the journal and the shipper's files lie.
        clock: The time.
        boot_id: Which boot it belongs to.
        heads_unlogged: Returns how many signed heads the feed has not logged; None where nobody counts them.
    """

    cache: EncryptedCache
    follower: Follower
    journal: FileJournal
    is_ready: Callable[[], bool]
    cache_directory: Path
    journal_directory: Path
    clock: Clock
    boot_id: str
    heads_unlogged: Callable[[], int] | None = None


def register_readings(registry: Registry, observed: Observed) -> None:
    """Have the registry read all of it."""
    registry.read(families.READY, lambda: int(observed.is_ready()))
    _register_sync(registry, observed)
    _register_cache(registry, observed)
    _register_journal(registry, observed)
    _register_shipper(registry, observed)


def read_stale_limit_seconds(cache: EncryptedCache) -> int | None:
    """The greatest age at which some purpose of the policy is still answered from the cache; None without a policy."""
    if cache.policy is None:
        return None
    return max((purpose.stale_grace_seconds for purpose in cache.policy.purposes.values()), default=0)


def _register_sync(registry: Registry, observed: Observed) -> None:
    cache, follower, sync = observed.cache, observed.follower, observed.follower.meter

    def staleness() -> float | None:
        age = age_ms(cache.head.checkpoint, observed.clock, observed.boot_id)
        return None if age is None else age / 1000

    registry.read(families.STALENESS, staleness)
    registry.read(families.STALENESS_LIMIT, lambda: read_stale_limit_seconds(cache))
    registry.read(families.LOG_SIZE, lambda: cache.head.size)
    registry.read(
        families.FRAME_AGE, lambda: None if sync.last_frame is None else time.perf_counter() - sync.last_frame
    )
    registry.read(families.SYNC_STATE, lambda: {(state.value,): int(state is follower.state) for state in SyncState})
    registry.read(families.UNCONFIRMED_RECEIPTS, lambda: len(cache.unconfirmed))


def _register_cache(registry: Registry, observed: Observed) -> None:
    cache = observed.cache

    def reserve_days() -> float | None:
        if cache.key_ring is None:
            return None
        last_day = max((day for day, _ in cache.key_ring.audit_keys), default=0)
        return last_day - observed.clock.now_ms() // MS_PER_DAY

    registry.read(families.CACHE_RECORDS, lambda: cache.subject_count)
    registry.read(families.CACHE_BYTES, lambda: _size_of(observed.cache_directory))
    registry.read(families.CACHE_GENERATION, lambda: cache.generation)
    registry.read(families.CACHE_INTACT, lambda: int(cache.is_intact))
    registry.read(families.KEY_CHECK_AGE, lambda: cache.key_check_age_seconds)
    registry.read(families.AUDIT_KEY_RESERVE, reserve_days)


def _register_journal(registry: Registry, observed: Observed) -> None:
    journal = observed.journal
    registry.read(families.JOURNAL_WRITABLE, lambda: int(journal.is_writable))
    registry.read(families.JOURNAL_MODE, lambda: {(journal.mode.value,): 1})
    registry.read(families.JOURNAL_RECORDED, lambda: journal.recorded_decisions)
    registry.read(families.JOURNAL_UNRECORDED, lambda: journal.unrecorded_decisions)
    registry.read(families.JOURNAL_BACKLOG_RECORDS, lambda: journal.backlog_records)
    registry.read(families.JOURNAL_BACKLOG_BYTES, lambda: journal.backlog_bytes)
    registry.read(families.JOURNAL_BACKLOG_AGE, lambda: journal.backlog_age_seconds)
    registry.read(
        families.JOURNAL_HEADS_UNLOGGED,
        lambda: None if observed.heads_unlogged is None else observed.heads_unlogged(),
    )


def _register_shipper(registry: Registry, observed: Observed) -> None:
    path = observed.journal_directory / STATUS_FILE_NAME

    def read(value: Callable[[ShipperStatus], float]) -> Callable[[], float | None]:
        def read_value() -> float | None:
            try:
                status = load_status(path)
            except (OSError, MalformedShipperStatus):
                return None
            return None if status is None else value(status)

        return read_value

    def failing_seconds(status: ShipperStatus) -> float:
        since_ms = status.failing_since_ms
        return max(0, observed.clock.now_ms() - since_ms) / 1000 if since_ms else 0

    registry.read(families.SHIPPER_SPANS, read(lambda status: status.spans))
    registry.read(families.SHIPPER_RETRIES, read(lambda status: status.retries))
    registry.read(families.SHIPPER_FAILING, read(failing_seconds))


def _size_of(directory: Path) -> int:
    with os.scandir(directory) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())
