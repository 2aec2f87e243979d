"""Whose log it is."""

from dataclasses import dataclass

from consent import encoding as wire
from consent.eventlog.keys import VerifierKey


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Whose log a file must hold.

    Attributes:
        origin: Name of the log.
        tenant: Name of the tenant.
        log_keys: Keys that may have signed its head.
    """

    origin: str
    tenant: str
    log_keys: tuple[VerifierKey, ...]

    @property
    def key_context(self) -> bytes:
        """What every key and every sealed row of this log is bound to."""
        return wire.STRING.write(self.origin) + wire.STRING.write(self.tenant)
