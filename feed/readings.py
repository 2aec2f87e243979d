"""What metrics and readiness read when somebody looks: of the log, the fleet, receipts, backups and witnesses."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from feed.backup.losses import LossGuard
from feed.grpc_api.backup_service import BackupService
from feed.grpc_api.progress import ProgressBook
from feed.receipts import ReceiptLog
from feed.sequencer import Sequencer
from feed.telemetry import families
from feed.telemetry.metrics import newest_change
from feed.witnessing import Witnessing
from hosting.clock import Clock
from hosting.metrics import Registry

_LOOK_BACK_CHUNK: Final = 500
_MAX_LOOK_BACK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Observed:
    """What is read.

    Attributes:
        log: The log.
        progress: How far each sidecar says it is.
        receipts: Signed acknowledgements on their way into the log.
        backup: Writes backups.
        witnessing: Has checkpoints cosigned.
        losses: Stops the intake.
        clock: The time.
        max_checkpoint_age_seconds: Beyond it the feed is not ready: sidecars would age with it.
        head_ages: Returns, by sidecar, the seconds since its last journal head was logged; None where nobody keeps them.
    """

    log: Sequencer
    progress: ProgressBook
    receipts: ReceiptLog
    backup: BackupService
    witnessing: Witnessing
    losses: LossGuard
    clock: Clock
    max_checkpoint_age_seconds: float
    head_ages: Callable[[], Mapping[str, float]] | None = None

    @property
    def checkpoint_age_seconds(self) -> float:
        """Since the newest checkpoint was signed."""
        return max(0, self.clock.now_ms() - self.log.head.checkpoint_time_ms) / 1000

    def readiness(self) -> dict[str, bool]:
        """What readiness consists of. An intake that is stopped is not in it: sidecars must still reach the feed."""
        is_fresh = self.checkpoint_age_seconds <= self.max_checkpoint_age_seconds
        return {"log_open": self.log.is_open, "checkpoint_fresh": is_fresh}

    def lags(self) -> dict[str, int]:
        """Entries that each enrolled sidecar has not acknowledged, up to the newest one that is to be acknowledged."""
        owed = self.log.meter.last_change_seq
        return {name: max(0, owed - size) for name, size in self.enrolled_sizes().items()}

    def enrolled_sizes(self) -> dict[str, int]:
        """What each enrolled sidecar has acknowledged."""
        known = {each.sidecar_id: each.acknowledged_size for each in self.progress.progress()}
        return {each.sidecar_id: known.get(each.sidecar_id, 0) for each in self.log.head.tenant.sidecars}


async def find_last_change(log: Sequencer) -> int:
    """Seq of the newest entry that changes answers, 0 where the last `_MAX_LOOK_BACK` entries have none.

    Raises:
        CorruptLog, LogStoreError: The log cannot be read.
    """
    size = log.head.size
    for first in range(size - _LOOK_BACK_CHUNK + 1, size - _MAX_LOOK_BACK, -_LOOK_BACK_CHUNK):
        found = newest_change(await log.read_entries(max(1, first), _LOOK_BACK_CHUNK))
        if found or first <= 1:
            return found
    return 0


def register_readings(registry: Registry, observed: Observed) -> None:
    """Have the registry read all of it."""
    log, losses, backup, witnessing = observed.log, observed.losses, observed.backup, observed.witnessing
    registry.read(families.READY, lambda: int(all(observed.readiness().values())))
    registry.read(families.LOG_SIZE, lambda: log.head.size)
    registry.read(families.CHECKPOINT_AGE, lambda: observed.checkpoint_age_seconds)
    registry.read(families.INTAKE_STOPPED, lambda: int(losses.loss is not None))
    registry.read(families.RECEIPTS_PENDING, lambda: observed.receipts.waiting_count)
    registry.read(families.BACKUP_AGE, lambda: _since(backup.written_at))
    registry.read(families.WITNESS_AGE, lambda: _since(witnessing.cosigned_at))
    registry.read(families.WITNESSES_FAILING, lambda: witnessing.failing_count)
    _register_fleet(registry, observed)


def _register_fleet(registry: Registry, observed: Observed) -> None:
    log, progress = observed.log, observed.progress

    def smallest() -> int | None:
        return min(observed.enrolled_sizes().values(), default=None)

    def lags() -> dict[tuple[str, ...], float]:
        return {(name,): lag for name, lag in observed.lags().items()}

    def connected() -> dict[tuple[str, ...], float]:
        streaming = {each.sidecar_id for each in progress.progress() if each.connected}
        return {(each.sidecar_id,): int(each.sidecar_id in streaming) for each in log.head.tenant.sidecars}

    def head_ages() -> dict[tuple[str, ...], float] | None:
        ages = observed.head_ages
        return None if ages is None else {(name,): seconds for name, seconds in ages().items()}

    registry.read(families.CONNECTED_SIDECARS, lambda: progress.connected_count)
    registry.read(families.ENROLLED_SIDECARS, lambda: len(log.head.tenant.sidecars))
    registry.read(families.FLEET_LAG, lambda: max(observed.lags().values(), default=None))
    registry.read(families.SMALLEST_SIZE, smallest)
    registry.read(families.SIDECAR_CONNECTED, connected)
    registry.read(families.SIDECAR_LAG, lags)
    registry.read(families.SIDECAR_HEAD_AGE, head_ages)


def _since(moment: float | None) -> float | None:
    return None if moment is None else time.perf_counter() - moment
