"""Settings of the sidecar: one frozen model, from a YAML file and `CONSENTRY_SIDECAR_*` variables."""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

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
from journal.format import JournalMode
from sidecar.check import Caller, Detail
from sidecar.journal.durability import Durability
from sidecar.journal.heads import HEAD_SECONDS, IDLE_HEAD_SECONDS, SEGMENT_MAX_SECONDS
from sidecar.journal.writer import OnUnavailable
from sidecar.key_providers.settings import AwsKmsSettings, VaultTransitSettings

ENV_PREFIX = "CONSENTRY_SIDECAR_"


class Method(StrEnum):
    """RPCs of the decision service."""

    CHECK = "Check"
    CHECK_BATCH = "CheckBatch"
    CHECK_STREAM = "CheckStream"
    EXPLAIN = "Explain"
    GET_STATUS = "GetStatus"


_ASKING = (Method.CHECK, Method.CHECK_BATCH, Method.CHECK_STREAM, Method.GET_STATUS)


class FeedSettings(SettingsModel):
    """Where the log comes from."""

    address: AddressText = Field(
        description="Address of the feed: `host:port`, or `unix:///path` for a feed on the same host."
    )
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required unless the address is a Unix socket.")
    backoff_first_ms: int = Field(
        default=200, ge=10, le=60_000, description="Upper bound of the first delay before a new attempt, ms."
    )
    backoff_most_ms: int = Field(
        default=10_000, ge=100, le=600_000, description="Upper bound of every later delay, ms."
    )

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        if self.tls is None and isinstance(parse_address(self.address), TcpAddress):
            raise ValueError("tls is required for an address that is not a Unix socket")
        return self


class CacheSettings(SettingsModel):
    """The encrypted local copy."""

    directory: Path = Field(description="Directory of the cache; on a volume of its own, mode 0700.")
    key_files: tuple[Path, ...] = Field(
        default=(),
        description="Files with key-encryption keys (32 bytes), the newest first; older ones while they rotate.",
    )
    aws_kms: AwsKmsSettings | None = Field(default=None, description="AWS KMS in place of `key_files`.")
    vault_transit: VaultTransitSettings | None = Field(
        default=None, description="Vault or OpenBao in place of `key_files`."
    )
    key_check_seconds: float = Field(
        default=30.0,
        ge=0.05,
        le=3600,
        description="How often a newer key-encryption key is looked for while the sidecar runs, seconds.",
    )
    high_water_file: Path | None = Field(
        default=None,
        description="Where the sealed high-water mark is kept a second time; on another volume, to recognise an old copy.",
    )
    create_key: bool = Field(
        default=False,
        description="Create the first key file where it is missing. For development: a key beside its data protects little.",
    )
    merge_after_entries: int = Field(
        default=50_000,
        ge=1,
        description="Entries after which the overlay is merged into a new generation, in the background.",
    )

    @model_validator(mode="after")
    def _has_one_provider(self) -> Self:
        if sum((bool(self.key_files), self.aws_kms is not None, self.vault_transit is not None)) != 1:
            raise ValueError("exactly one of key_files, aws_kms and vault_transit says where the key-encryption key is")
        if self.create_key and not self.key_files:
            raise ValueError("create_key needs key_files")
        return self


class JournalSettings(SettingsModel):
    """The decision record."""

    directory: Path = Field(description="Directory of the journal; on a volume that outlives the process.")
    mode: JournalMode = Field(
        default=JournalMode.GROUP,
        description="`group`: written before the answer, fsync within 50 ms. `sync`: fsync before the answer. `async`: weaker than both, "
        "and in effect only where the policy permits it.",
    )
    on_unavailable: OnUnavailable = Field(
        default=OnUnavailable.DENY,
        description="What happens to checks while the record cannot be kept; `deny`: no record, no answer. `allow_and_count` is in "
        "effect only where the policy permits it.",
    )
    segment_max_bytes: int = Field(
        default=64 * 1024 * 1024, ge=4096, description="A new segment begins from this size on, bytes."
    )
    segment_max_seconds: float = Field(
        default=SEGMENT_MAX_SECONDS, ge=1, description="A new segment begins after this time at the latest, seconds."
    )
    head_seconds: float = Field(
        default=HEAD_SECONDS,
        ge=0.05,
        le=60,
        description="A signed head of the record is made at least this often while there is traffic, seconds.",
    )
    idle_head_seconds: float = Field(
        default=IDLE_HEAD_SECONDS,
        ge=0.05,
        le=300,
        description="The same while there is none; the feed's alarm about a silent sidecar counts on it, seconds.",
    )
    ship: bool = Field(
        default=True,
        description="Export the record as spans over OTLP (`OTEL_*` variables say where); it is kept either way.",
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        description="Segments that ended longer ago are disposed of, once they are shipped (unless `ship` is off) and a head behind them "
        "is in the log, days; none: they are kept for ever.",
    )
    retention_max_bytes: int | None = Field(
        default=None,
        ge=4096,
        description="While all segments together are larger, the oldest are disposed of under the same conditions, bytes; well below "
        "the size of the volume. None: any size.",
    )
    retention_check_seconds: float = Field(
        default=3600.0,
        ge=0.05,
        le=86_400,
        description="Pause between two looks for segments to dispose of, seconds; the first look comes after 60 at most.",
    )

    @property
    def durability(self) -> Durability:
        """What is asked for."""
        return Durability(self.mode, self.on_unavailable)


class CallerSettings(SettingsModel):
    """Who may ask through a listener, and what."""

    name: Name = Field(description="Name of the caller in records, traces and the policy.")
    purposes: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Purposes that it may ask for; `*` for all."
    )
    methods: tuple[Method, ...] = Field(
        default=_ASKING, min_length=1, description="RPCs that it may call; Explain is not among the default."
    )
    detail: Detail = Field(
        default=Detail.EFFECT,
        description="`effect`: reasons that say something about the person are withheld; `full`: they are told.",
    )
    may_use_tokens: bool = Field(default=False, description="It may send ready subject tokens in place of identifiers.")
    identity: str | None = Field(
        default=None,
        description="URI or DNS name in the caller's certificate; required on TCP, impossible on a Unix socket.",
    )

    @model_validator(mode="after")
    def _explains_in_full(self) -> Self:
        if Method.EXPLAIN in self.methods and self.detail is not Detail.FULL:
            raise ValueError("Explain tells which rule fired, so it needs detail: full")
        return self

    def to_caller(self) -> Caller:
        """What the check path works with."""
        return Caller(
            name=self.name,
            purposes=frozenset(self.purposes),
            methods=frozenset(method.value for method in self.methods),
            detail=self.detail,
            may_use_tokens=self.may_use_tokens,
        )


class ListenerSettings(SettingsModel):
    """One address to ask at. gRPC shows no identity of who connects to a Unix socket, so each socket belongs to one caller."""

    address: AddressText = Field(description="`unix:///path` for one caller, or `host:port` with mutual TLS.")
    callers: tuple[CallerSettings, ...] = Field(
        min_length=1, description="Who may ask here; exactly one on a Unix socket."
    )
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required on TCP.")

    @property
    def parsed_address(self) -> Address:
        """The address."""
        return parse_address(self.address)

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        if isinstance(self.parsed_address, UnixAddress):
            if len(self.callers) != 1 or self.callers[0].identity is not None or self.tls is not None:
                raise ValueError("a Unix socket has exactly one caller, without identity and tls")
        elif self.tls is None or any(caller.identity is None for caller in self.callers):
            raise ValueError("a TCP listener needs tls, and each of its callers an identity")
        elif len({caller.identity for caller in self.callers}) != len(self.callers):
            raise ValueError("two callers have the same identity")
        return self


class AuditSettings(SettingsModel):
    """Where auditors read the decision record."""

    address: AddressText = Field(description="`unix:///path` (mode 0600), or `host:port` with mutual TLS.")
    tls: TlsFiles | None = Field(default=None, description="Mutual TLS; required on TCP.")
    auditors: tuple[CertificateName, ...] = Field(
        default=(),
        description="URIs (SPIFFE IDs) and DNS names; an auditor's certificate must have one of them. Required on TCP.",
    )

    @model_validator(mode="after")
    def _needs_tls(self) -> Self:
        is_socket = isinstance(parse_address(self.address), UnixAddress)
        if (self.tls is None) != is_socket or bool(self.auditors) == is_socket:
            raise ValueError("tls and auditors are required on TCP, and impossible on a Unix socket")
        return self


class SidecarSettings(SettingsModel):
    """All settings of `consentry-sidecar`."""

    sidecar_id: Name = Field(description="Name of this instance; the certificate towards the feed must carry it.")
    trust: TrustSettings = Field(description="Whom to believe.")
    feed: FeedSettings = Field(description="Where the log comes from.")
    enrolment_token_file: Path | None = Field(
        default=None,
        description="File with the token of `consentry-feed sidecars token`, with which this instance's own key is enrolled; "
        "read when it is needed. None: an operator approves.",
    )
    cache: CacheSettings = Field(description="The encrypted local copy.")
    journal: JournalSettings = Field(description="The decision record.")
    listeners: tuple[ListenerSettings, ...] = Field(
        min_length=1, description="Where callers ask; one entry per address."
    )
    admin_address: SocketText | None = Field(
        default=None,
        description="Unix socket (mode 0600) for `consentry-sidecar status` and for Explain; none: no administration.",
    )
    audit: AuditSettings | None = Field(
        default=None,
        description="Where auditors read the decision record; none: only through the administration socket.",
    )
    management: ManagementSettings | None = Field(
        default=None, description="Health and metrics over HTTP; none: no management port."
    )
    bootstrap_policy_file: Path | None = Field(
        default=None,
        description="Policy in force before the first snapshot: a note signed by the approvers that a policy needs.",
    )
    reflection: bool = Field(default=False, description="Serve gRPC reflection on every listener; off in production.")
    drain_seconds: float = Field(
        default=5.0, ge=0, le=600, description="How long calls under way may take after SIGTERM, seconds."
    )
    log: ProgramLogSettings = Field(default=ProgramLogSettings(), description="The program's own log.")

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        addresses = [listener.address for listener in self.listeners] + (
            [self.admin_address] if self.admin_address else []
        )
        addresses += [self.audit.address] if self.audit is not None else []
        addresses += [self.management.address] if self.management is not None else []
        if len(set(addresses)) != len(addresses):
            raise ValueError("two listeners have the same address")
        return self
