"""Settings that every server has."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from hosting.addresses import Address, UnixAddress, parse_address
from hosting.errors import AddressError
from hosting.settings.model import SettingsModel


def _verify_address(text: str) -> str:
    try:
        parse_address(text)
    except AddressError as error:
        raise ValueError(str(error)) from None
    return text


def _verify_socket(text: str) -> str:
    if not isinstance(parse_address(_verify_address(text)), UnixAddress):
        raise ValueError("expected a Unix socket: unix:///path")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""A name that can stand in certificates, records and file names."""

AddressText = Annotated[str, AfterValidator(_verify_address)]
"""An address as `hosting.addresses.parse_address` reads it."""

SocketText = Annotated[str, AfterValidator(_verify_socket)]
"""The address of a Unix socket."""


CertificateName = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z][A-Za-z0-9+.-]*:[!-~]+|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)$", max_length=2048),
]
"""A URI or a DNS name of a certificate, exactly as it stands there; no wildcards."""


class TlsFiles(SettingsModel):
    """Mutual TLS. The files may be replaced at any time; the next connection uses what they hold then."""

    cert_file: Path = Field(description="PEM file: own certificate, then intermediates.")
    key_file: Path = Field(description="PEM file: its private key; only the owner may read it.")
    ca_file: Path = Field(description="PEM file: the authorities whose certificates the other side may show.")
    expiry_warning_days: float = Field(
        default=14.0,
        ge=0,
        le=3650,
        description="Days before the own certificate's end from which on the log warns; at most a third of its lifetime.",
    )


class ManagementSettings(SettingsModel):
    """The management port: `/livez`, `/readyz`, `/startupz` and `/metrics` over HTTP."""

    address: AddressText = Field(
        description="`host:port`, or `unix:///path` (mode 0660); loopback unless `tls` or `public` is set."
    )
    tls: TlsFiles | None = Field(
        default=None,
        description="Mutual TLS: only who shows a certificate of `ca_file` is answered. Kubernetes' probes cannot show one.",
    )
    public: bool = Field(
        default=False,
        description="Plain HTTP on an address that others can reach is meant: for probes and scrapers of the cluster. "
        "Nothing about any person is served.",
    )

    @property
    def parsed_address(self) -> Address:
        """The address."""
        return parse_address(self.address)

    @model_validator(mode="after")
    def _is_meant(self) -> Self:
        is_socket = isinstance(self.parsed_address, UnixAddress)
        if self.tls is not None and (is_socket or self.public):
            raise ValueError("tls is impossible on a Unix socket and with public")
        if self.tls is None and not self.public and not self.parsed_address.is_loopback:
            raise ValueError("an address that others can reach needs tls, or public: true where plain HTTP is meant")
        return self


class TrustSettings(SettingsModel):
    """Whom to believe; never taken from the other side."""

    file: Path = Field(
        description="Signed trust file: tenant, origin, keys of the log, its cosigners, sources and approvers."
    )
    root_key_file: Path = Field(description="Verifier key of whoever signs the trust file, one line (`name+id+key`).")


class ProgramLogSettings(SettingsModel):
    """The program's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    format: Literal["json", "text"] = Field(
        default="json", description="`json`: one object a line; `text`: for people."
    )
