"""Settings of the feed: one frozen model, from a YAML file and `CONSENTRY_FEED_*` variables."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, parse_verifier_key
from feed.intake.sources import Source
from feed.ports import Witness
from hosting.addresses import Address, TcpAddress, UnixAddress, parse_address
from hosting.settings import SettingsModel
from hosting.settings.server import (
    AddressText,
    CertificateName,
    ManagementSettings,
    Name,
    ProgramLogSettings,
    SocketText,
    TlsFiles,
    TrustSettings,
)

ENV_PREFIX = "CONSENTRY_FEED_"

Origin = Annotated[str, StringConstraints(pattern=r"^[^\s+]{1,255}$")]
TrustDomain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+$")]


class Method(StrEnum):
    """RPCs of the intake service."""

    RECORD_DIRECTIVE = "RecordDirective"
    RECORD_DIRECTIVES = "RecordDirectives"
    RECORD_LINK = "RecordLink"
    RECORD_UNLINK = "RecordUnlink"
    RECORD_FACT = "RecordFact"
    RECORD_RESTRICTION = "RecordRestriction"


class LogSettings(SettingsModel):
    """The event log."""

    directory: Path = Field(description="Directory of the log's database and snapshots, mode 0700.")
    keys_directory: Path = Field(
        description="Directory of the key files that `consentry-feed init` creates; not beside the database."
    )
    high_water_file: Path | None = Field(
        default=None,
        description="File that says how far the log once was, on another volume than `directory`: an older database that is put "
        "back is refused. Default: `high-water/log-mark` beside `keys_directory`.",
    )
    archive_directory: Path | None = Field(
        default=None,
        description="Directory on a second disk to which every entry is written before it is accepted; none: no archive.",
    )
    resign_seconds: float = Field(
        default=2.0,
        ge=0.2,
        le=60,
        description="How often the newest checkpoint is signed anew while nothing happens, seconds.",
    )
    max_stream_entries: int = Field(
        default=200_000, ge=1, description="A sidecar that is further behind than this many entries is sent a snapshot."
    )
    max_waiting_requests: int = Field(
        default=10_000, ge=1, description="Requests that may wait for the log; one more is answered RESOURCE_EXHAUSTED."
    )
    receipts_seconds: float = Field(
        default=2.0,
        ge=0.05,
        le=3600,
        description="How long signed acknowledgements wait for others before they are logged together, seconds.",
    )
    admin_refusals_seconds: float = Field(
        default=60.0,
        ge=0.05,
        le=3600,
        description="How long refused calls wait for others that are alike before they are logged together, seconds.",
    )

    journal_heads_seconds: float = Field(
        default=10.0,
        ge=0.05,
        le=3600,
        description="How long signed heads of sidecars' journals wait for others before they are logged together, seconds.",
    )
    journal_silent_seconds: float = Field(
        default=300.0,
        ge=0.1,
        le=86_400,
        description="An enrolled sidecar of which no head was logged for so long raises the alert `JOURNAL_SILENT`, seconds.",
    )

    @property
    def high_water_path(self) -> Path:
        """The high-water mark's file, the default applied."""
        return self.high_water_file or self.keys_directory.parent / "high-water" / "log-mark"

    @model_validator(mode="after")
    def _is_apart(self) -> Self:
        directory = self.directory.absolute()
        if self.high_water_path.absolute().is_relative_to(directory):
            raise ValueError("high_water_file is in `directory`: whoever puts back the one puts back the other")
        if self.archive_directory is not None and (
            self.archive_directory.absolute().is_relative_to(directory)
            or directory.is_relative_to(self.archive_directory.absolute())
        ):
            raise ValueError("archive_directory and `directory` lie within each other: one disk loses both")
        return self


class WitnessSettings(SettingsModel):
    """A witness that cosigns checkpoints (c2sp.org/tlog-witness)."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$")] = Field(
        description="Its submission prefix; `https` unless it is on this host."
    )
    key: str = Field(
        description="Its key, as `consentry-witness init` prints it: name, key id and base64, joined by plus signs."
    )
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS, for an `https` witness that demands it.")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        self.to_witness()
        split = urlsplit(self.url)
        if split.scheme == "http" and not TcpAddress(split.hostname or "", 1).is_loopback:
            raise ValueError("url must begin with https:// unless the witness is on this host")
        if self.tls is not None and split.scheme == "http":
            raise ValueError("tls is impossible with http://")
        return self

    def to_witness(self) -> Witness:
        """As witnessing takes it."""
        try:
            key = parse_verifier_key(self.key)
        except EventLogError as error:
            raise ValueError(f"key: {error}") from None
        if key.kind is not KeyKind.COSIGNER:
            raise ValueError("key must be a cosigner's key")
        files = (self.tls.cert_file, self.tls.key_file) if self.tls is not None else None
        return Witness(self.url, key, files, self.tls.ca_file if self.tls is not None else None)


class SyncListenerSettings(SettingsModel):
    """Where sidecars connect."""

    address: AddressText = Field(
        description="`host:port` with mutual TLS, or `unix:///path` for sidecars on the same host."
    )
    tls: TlsFiles | None = Field(
        default=None, description="Mutual TLS; required on TCP. A sidecar's certificate must carry its name."
    )
    trust_domain: TrustDomain | None = Field(
        default=None,
        description="Trust domain of the sidecars, required with `tls`: a sidecar's certificate must have the URI "
        "`spiffe://<trust_domain>/sidecar/<sidecar_id>`.",
    )

    @property
    def parsed_address(self) -> Address:
        """The address."""
        return parse_address(self.address)

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        if (self.tls is None) != isinstance(self.parsed_address, UnixAddress):
            raise ValueError("tls is required on TCP, and impossible on a Unix socket")
        if self.tls is not None and self.trust_domain is None:
            raise ValueError("trust_domain is required with tls")
        return self


class SourceSettings(SettingsModel):
    """An intake system: what it may say."""

    name: Name = Field(description="Name of the source; every event carries it.")
    address: AddressText = Field(
        description="Listener of this source and of no other: `unix:///path`, or `host:port` with mutual TLS."
    )
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required on TCP.")
    certificate_names: tuple[CertificateName, ...] = Field(
        default=(),
        description="URIs (SPIFFE IDs) and DNS names; a caller's certificate must have one of them. Required on TCP.",
    )
    namespaces: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Namespaces of identifiers that it may speak of."
    )
    purposes: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Purposes that it may speak of; `*` for all."
    )
    methods: tuple[Method, ...] = Field(default=tuple(Method), min_length=1, description="RPCs that it may call.")
    max_proof: int = Field(
        default=1,
        ge=0,
        le=3,
        description="Highest proof that it may assert: 0 none, 1 link, 2 double opt-in, 3 session.",
    )
    max_assurance: int = Field(
        default=1, ge=0, le=2, description="Highest assurance: 0 device, 1 contact point, 2 account."
    )
    signing_key_file: Path | None = Field(
        default=None,
        description="Private key (`PRIVATE+KEY+...`, mode 0600) with which the feed vouches for what this source relaxes; its public half "
        "stands in the trust file with rights at least as wide as the settings here. None: the source can only restrict.",
    )
    may_use_tokens: bool = Field(default=False, description="It may send ready subject tokens in place of identifiers.")

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        is_socket = isinstance(parse_address(self.address), UnixAddress)
        if (self.tls is None) != is_socket or bool(self.certificate_names) == is_socket:
            raise ValueError("tls and certificate_names are required on TCP, and impossible on a Unix socket")
        return self

    def to_source(self) -> Source:
        """What intake works with."""
        return Source(
            name=self.name,
            namespaces=frozenset(self.namespaces),
            purposes=frozenset(self.purposes),
            max_proof=self.max_proof,
            max_assurance=self.max_assurance,
            methods=frozenset(method.value for method in self.methods),
            may_use_tokens=self.may_use_tokens,
        )


class AuditListenerSettings(SettingsModel):
    """Where auditors read the log. They are given keys and pseudonyms only by an administrator."""

    address: AddressText = Field(description="`unix:///path` (mode 0600), or `host:port` with mutual TLS.")
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required on TCP.")
    certificate_names: tuple[CertificateName, ...] = Field(
        default=(),
        description="URIs (SPIFFE IDs) and DNS names; an auditor's certificate must have one of them. Required on TCP.",
    )

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        is_socket = isinstance(parse_address(self.address), UnixAddress)
        if (self.tls is None) != is_socket or bool(self.certificate_names) == is_socket:
            raise ValueError("tls and certificate_names are required on TCP, and impossible on a Unix socket")
        return self


class FeedSettings(SettingsModel):
    """All settings of `consentry-feed`."""

    tenant: Name = Field(description="Name of the tenant whose log this is.")
    origin: Origin = Field(
        description="Name of the log, unique in the world: a domain of yours and a path, such as `consent.example/log`."
    )
    trust: TrustSettings = Field(
        description="The trust file that the sidecars have: nothing is logged that it does not let its signers say."
    )
    event_log: LogSettings = Field(description="The event log.")
    sync: SyncListenerSettings = Field(description="Where sidecars connect.")
    sources: tuple[SourceSettings, ...] = Field(default=(), description="Intake systems, one entry per source.")
    admin_address: SocketText = Field(description="Unix socket (mode 0600) for policies, imports, records and status.")
    import_address: SocketText | None = Field(
        default=None, description="Unix socket (mode 0600) for `consentry-feed import`; none: no imports."
    )
    audit: AuditListenerSettings | None = Field(
        default=None, description="Where auditors read the log; none: only through the administration socket."
    )
    management: ManagementSettings | None = Field(
        default=None, description="Health and metrics over HTTP; none: no management port."
    )
    witnesses: tuple[WitnessSettings, ...] = Field(
        default=(), description="Who cosigns checkpoints; how many a sidecar demands, its trust file says."
    )
    witness_seconds: float = Field(
        default=2.0, ge=0.1, le=60, description="Pause between two rounds of asking all witnesses, seconds."
    )
    import_signing_key_file: Path | None = Field(
        default=None, description="As `sources[].signing_key_file`, for imports; none: an import cannot grant."
    )
    drain_seconds: float = Field(
        default=5.0, ge=0, le=600, description="How long calls under way may take after SIGTERM, seconds."
    )
    reflection: bool = Field(
        default=False, description="Serve gRPC reflection on the administration socket; off in production."
    )
    log: ProgramLogSettings = Field(default=ProgramLogSettings(), description="The program's own log.")

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        addresses = [self.sync.address, self.admin_address, *(source.address for source in self.sources)]
        addresses += [self.import_address] if self.import_address is not None else []
        addresses += [self.audit.address] if self.audit is not None else []
        addresses += [self.management.address] if self.management is not None else []
        if len(set(addresses)) != len(addresses):
            raise ValueError("two listeners have the same address")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have the same name")
        return self
