"""Settings of the witness: one frozen model, from a YAML file and `CONSENTRY_WITNESS_*` variables."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, VerifierKey, parse_verifier_key
from hosting.addresses import TcpAddress, UnixAddress, parse_address
from hosting.settings import SettingsModel
from hosting.settings.server import AddressText, ProgramLogSettings, TlsFiles

ENV_PREFIX = "CONSENTRY_WITNESS_"


class WatchedLogSettings(SettingsModel):
    """A log that the witness watches."""

    origin: str = Field(min_length=1, description="Name of the log.")
    keys: tuple[str, ...] = Field(
        min_length=1, description="Its keys: name, key id and base64, joined by plus signs; two while they rotate."
    )

    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The keys, read."""
        try:
            keys = tuple(parse_verifier_key(key) for key in self.keys)
        except EventLogError as error:
            raise ValueError(f"keys: {error}") from None
        if any(key.kind is not KeyKind.LOG for key in keys):
            raise ValueError("keys must be a log's")
        return keys

    @model_validator(mode="after")
    def _keys_can_be_read(self) -> Self:
        self.verifier_keys()
        return self


class WitnessSettings(SettingsModel):
    """All settings of `consentry-witness`."""

    key_file: Path = Field(description="The private key that `consentry-witness init` made, mode 0600.")
    directory: Path = Field(
        description="Where it keeps what it has cosigned, mode 0700. Never put back an older copy: retire the key instead."
    )
    address: AddressText = Field(default="127.0.0.1:7750", description="`host:port` to serve HTTP on.")
    tls: TlsFiles | None = Field(
        default=None, description="Mutual TLS; required on any address that is not this host's own."
    )
    logs: tuple[WatchedLogSettings, ...] = Field(default=(), description="The logs that it watches.")
    log: ProgramLogSettings = Field(default=ProgramLogSettings(), description="The program's own log.")

    @property
    def tcp_address(self) -> TcpAddress:
        """Where to listen."""
        address = parse_address(self.address)
        if isinstance(address, UnixAddress):
            raise ValueError("address must be host:port")
        return address

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tls is None and not self.tcp_address.is_loopback:
            raise ValueError("tls is required on an address that is not this host's own")
        origins = [log.origin for log in self.logs]
        if len(set(origins)) != len(origins):
            raise ValueError("two logs have the same origin")
        return self
