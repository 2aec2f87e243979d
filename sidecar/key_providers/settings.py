"""Settings of the key services."""

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from hosting.settings import SettingsModel


def _verify_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("https", "http") or not url.hostname or url.username or url.query or url.fragment:
        raise ValueError("expected https://host or https://host:port")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise ValueError("http is for addresses of this host only; a key leaves it over https")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


UrlText = Annotated[str, AfterValidator(_verify_url)]
KeyArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,128}$")]
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
MountPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=128)]


class AwsKmsSettings(SettingsModel):
    """AWS KMS keeps the key-encryption key; needs the extra `consentry[aws]`, credentials are found as AWS's SDK finds them."""

    key_arns: tuple[KeyArn, ...] = Field(
        min_length=1,
        description="ARNs of symmetric KMS keys (no aliases), the newest first; older ones while they rotate.",
    )
    endpoint_url: UrlText | None = Field(
        default=None, description="URL of KMS, such as a VPC endpoint; none: the endpoint of the key's region."
    )
    timeout_seconds: float = Field(
        default=3.0,
        ge=0.1,
        le=60,
        description="For connecting and for an answer, each, seconds.",
    )


class VaultTransitSettings(SettingsModel):
    """A transit engine of HashiCorp Vault or OpenBao keeps the key-encryption key; needs the extra `consentry[vault]`."""

    address: UrlText = Field(description="URL of the server: `https://host:port`.")
    key_names: tuple[KeyName, ...] = Field(
        min_length=1,
        description="Names of keys of an AEAD type, the newest first; older ones while they rotate. Versions of one key need no change.",
    )
    token_file: Path = Field(description="File with the token, mode 0600; read at each call, so an agent may renew it.")
    mount: MountPath = Field(default="transit", description="Path where the engine is mounted.")
    namespace: str | None = Field(default=None, description="Namespace of the engine.")
    ca_file: Path | None = Field(
        default=None, description="PEM file: authority of the server's certificate; none: the system's authorities."
    )
    timeout_seconds: float = Field(
        default=3.0, ge=0.1, le=60, description="For connecting and for an answer, each, seconds."
    )
