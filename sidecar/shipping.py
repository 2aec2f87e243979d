"""The composition root of the shipper: a process of its own, so that exporting never holds up a check."""

import logging
import os
from collections.abc import Mapping
from functools import partial

from hosting.clock import SystemClock
from hosting.processes import die_with_parent, disable_core_dumps, stop_event_on_signals
from hosting.telemetry.exporter import build_exporter
from hosting.telemetry.resource import build_resource
from sidecar.config import SidecarSettings
from sidecar.journal.position import POSITION_FILE_NAME
from sidecar.journal.shipper import Shipper
from sidecar.runtime import VERSION, load_keys
from sidecar.sync.backoff import Backoff
from sidecar.telemetry.apply_spans import project_applied
from sidecar.telemetry.spans import project

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
_DELAYS_SECONDS = (0.2, 15.0)
"""First and longest pause after a failed export: with the time an attempt itself takes, a receiver that is back is found within 30 s."""
_NICENESS = 19
"""The kernel gives input and output the same rank. SCHED_IDLE would starve the catch-up on a busy machine: docs/adr/0025."""


def run_shipper(settings: SidecarSettings, environ: Mapping[str, str], parent_pid: int | None) -> None:
    """Export the journal until SIGTERM, then what is left of it.

    Args:
        settings: Of the sidecar whose journal it is.
        environ: The standard `OTEL_*` variables say where spans go.
        parent_pid: The sidecar that started this process: the shipper ends with it.

    Raises:
        SidecarError, HostingError: What stops the start.
    """
    disable_core_dumps()
    if parent_pid is not None:
        die_with_parent(parent_pid)
    os.nice(_NICENESS)
    # The shipper says itself, once, that its receiver is away; the SDK would say it at every attempt.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    stop = stop_event_on_signals()
    resource = build_resource(settings.sidecar_id, VERSION, environ)
    shipper = Shipper(
        settings.journal.directory,
        load_keys(settings),
        build_exporter(environ),
        settings.journal.directory / POSITION_FILE_NAME,
        SystemClock(),
        project=partial(project, resource=resource),
        project_applied=partial(project_applied, resource=resource, sidecar_id=settings.sidecar_id),
        delays=Backoff(*_DELAYS_SECONDS),
    )
    try:
        shipper.run(stop)
        # What was answered until the sidecar closed its journal still leaves, if the receiver takes it in time.
        if not shipper.drain(DRAIN_SECONDS):
            logger.warning("the journal holds records that were not shipped yet; they are sent after the next start")
    finally:
        shipper.close()
