"""Metrics that every program has."""

import time
from collections.abc import Mapping
from typing import Final

from hosting.certificates import OwnCertificate
from hosting.metrics.family import Family, Kind
from hosting.metrics.registry import Registry

CERTIFICATE_EXPIRY: Final = Family(
    "consentry_certificate_expiry_seconds",
    Kind.GAUGE,
    "Until an own certificate expires, negative once it has. certificate: what it is for, or the listener's address.",
    ("certificate",),
)
PROCESS_START: Final = Family("process_start_time_seconds", Kind.GAUGE, "Unix time at which the program started.")

FAMILIES: Final = (CERTIFICATE_EXPIRY, PROCESS_START)

_STARTED_SECONDS: Final = time.time()


def register_process(registry: Registry, certificates: Mapping[str, OwnCertificate | None]) -> None:
    """Have the registry read them.

    Args:
        registry: The program's.
        certificates: Its own, by what they are for.
    """
    known = {name: certificate for name, certificate in certificates.items() if certificate is not None}
    registry.read(PROCESS_START, lambda: _STARTED_SECONDS)
    registry.read(CERTIFICATE_EXPIRY, lambda: {(name,): each.seconds_left for name, each in known.items()})
