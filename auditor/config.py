"""Settings of the auditor: one frozen model, from a YAML file and `CONSENTRY_AUDITOR_*` variables."""

from pathlib import Path

from pydantic import Field

from hosting.settings import SettingsModel
from hosting.settings.server import AddressText, Name, TlsFiles, TrustSettings

ENV_PREFIX = "CONSENTRY_AUDITOR_"


class SourceSettings(SettingsModel):
    """Where a feed or a sidecar answers auditors."""

    address: AddressText = Field(description="`host:port`, or `unix:///path` on the same host.")
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required unless the address is a Unix socket.")


class SidecarSourceSettings(SourceSettings):
    """Where a sidecar answers auditors."""

    sidecar_id: Name = Field(description="Its name.")


class AuditorSettings(SettingsModel):
    """All settings of `consentry-auditor`; what the command line names wins."""

    name: Name = Field(default="auditor", description="Name of the auditor, bound into everything sealed to it.")
    folder: Path | None = Field(default=None, description="Audit folder.")
    key_file: Path | None = Field(default=None, description="The auditor's own key, mode 0600.")
    trust: TrustSettings | None = Field(default=None, description="Whom to believe.")
    feed: SourceSettings | None = Field(default=None, description="The feed.")
    sidecars: tuple[SidecarSourceSettings, ...] = Field(default=(), description="The sidecars.")
