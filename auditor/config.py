"""Settings of the auditor: one frozen model, from a YAML file and `CONSENTRY_AUDITOR_*` variables."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from hosting.addresses import TcpAddress, parse_address
from hosting.settings import SettingsModel
from hosting.settings.server import AddressText, Name, TlsFiles, TrustSettings

ENV_PREFIX = "CONSENTRY_AUDITOR_"


class SourceSettings(SettingsModel):
    """Where a feed or a sidecar answers auditors."""

    address: AddressText = Field(description="`host:port`, or `unix:///path` on the same host.")
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required unless the address is a Unix socket.")

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if isinstance(parse_address(self.address), TcpAddress) and self.tls is None:
            raise ValueError("tls is required unless the address is a Unix socket")
        return self


class SidecarSourceSettings(SourceSettings):
    """Where a sidecar answers auditors."""

    sidecar_id: Name = Field(description="Its name.")


class AuditorSettings(SettingsModel):
    """All settings of `consentry-auditor`; what the command line names wins."""

    name: Name | None = Field(
        default=None,
        description="Name of the auditor, bound into everything sealed to it; if not given, as in the `.pub` file beside the key.",
    )
    folder: Path | None = Field(default=None, description="Audit folder.")
    key_file: Path | None = Field(default=None, description="The auditor's own key, mode 0600.")
    trust: TrustSettings | None = Field(
        default=None,
        description="Whom to believe: copied into the audit folder by each fetch. Without it, what lies there counts.",
    )
    feed: SourceSettings | None = Field(default=None, description="The feed.")
    sidecars: tuple[SidecarSourceSettings, ...] = Field(default=(), description="The sidecars.")
    silent_seconds: float = Field(
        default=300.0,
        ge=1.0,
        description="How long a sidecar's journal may make no signed head before `verify` calls it silent.",
    )
    timeout_seconds: float = Field(
        default=30.0, ge=0.1, description="How long a feed or a sidecar may take to answer, and to go on."
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        names = [sidecar.sidecar_id for sidecar in self.sidecars]
        if len(set(names)) != len(names):
            raise ValueError("sidecars: a sidecar_id stands twice")
        return self
