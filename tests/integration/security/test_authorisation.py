"""Every RPC of every service, at every listener, by every kind of caller: what docs/security-roles.md says, and nothing else."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from feed.grpc_api.roles import PERMISSIONS, Role
from feed.runtime import running_feed
from hosting.addresses import TcpAddress, format_address
from hosting.tls import channel_credentials
from sidecar.config import Method
from sidecar.grpc_api.decision_service import SERVICE
from sidecar.grpc_api.journal_service import SERVICE as JOURNAL_SERVICE
from sidecar.runtime import running_sidecar
from tests.fakes.certificates import Authority, make_authority
from tests.integration.security.calls import FEED_FILES, SERVED, SIDECAR_FILES, Rpc, list_outcomes, list_rpcs
from tests.integration.security.secure_system import (
    SIDECAR_ID,
    SecureInstallation,
    find_free_port,
    install_secure,
    sidecar_uri,
)

PARTNER, CRM = "spiffe://partner.example/signup", "crm.shop.example"
MAILER, AUDITOR = "spiffe://shop.example/mailer", "spiffe://shop.example/internal-audit"
UNAVAILABLE, UNIMPLEMENTED = "UNAVAILABLE", "UNIMPLEMENTED"
DENIED = "PERMISSION_DENIED "

FEED_RPCS = list(list_rpcs(FEED_FILES, SIDECAR_ID))
SIDECAR_RPCS = list(list_rpcs(SIDECAR_FILES, SIDECAR_ID))

Credentials = grpc.ChannelCredentials | None

# Callers of a TLS listener: what they show. Whoever has nothing to show gets no further than the handshake.
CALLERS: dict[str, Callable[[Authority, Authority], Credentials]] = {
    "sidecar": lambda ours, _: shown(ours, "a", sidecar_uri()),
    "another sidecar": lambda ours, _: shown(ours, "b", sidecar_uri("sidecar-2")),
    "sidecar's URI as a DNS name": lambda ours, _: shown(ours, "c", dns="sidecar-1.shop.example"),
    "source by URI": lambda ours, _: shown(ours, "d", PARTNER),
    "source by DNS name": lambda ours, _: shown(ours, "e", dns=CRM),
    "service": lambda ours, _: shown(ours, "f", MAILER),
    "auditor": lambda ours, _: shown(ours, "j", AUDITOR),
    "nobody": lambda ours, _: shown(ours, "g"),
    "sidecar of another authority": lambda ours, theirs: shown(theirs, "h", sidecar_uri(), trusts=ours),
    "source of another authority": lambda ours, theirs: shown(theirs, "i", PARTNER, trusts=ours),
    "no certificate": lambda ours, _: grpc.ssl_channel_credentials(ours.ca_file.read_bytes()),
    "plain text": lambda _ours, _theirs: None,
}
REFUSED_IN_HANDSHAKE = frozenset(
    {"sidecar of another authority", "source of another authority", "no certificate", "plain text"}
)


def shown(
    authority: Authority, name: str, uri: str = "", dns: str = "", trusts: Authority | None = None
) -> Credentials:
    files = authority.issue(name, *([uri] if uri else []), dns=[dns] if dns else [])
    return channel_credentials(files.cert_file, files.key_file, (trusts or authority).ca_file)


@dataclass(frozen=True)
class Place:
    """A listener of the feed: its role, its services, and who may call there."""

    role: Role
    services: tuple[str, ...]
    permitted: frozenset[str] = frozenset()
    refusal: str = ""


FEED, INTAKE = "consentry.feed.v1.FeedService", "consentry.intake.v1.IntakeService"
ADMINISTRATION = (
    "consentry.intake.v1.PolicyService",
    "consentry.intake.v1.SubjectService",
    "consentry.intake.v1.BackupService",
    "consentry.feed.v1.AuditService",
    "consentry.feed.v1.EnrolmentService",
)
SYNC = Place(Role.SIDECAR, (FEED,), frozenset({"sidecar"}), "SIDECAR_NOT_PERMITTED")
PARTNER_INTAKE = Place(
    Role.SOURCE, (INTAKE,), frozenset({"source by URI", "source by DNS name"}), "CALLER_NOT_PERMITTED"
)
AUDIT = Place(Role.AUDITOR, ("consentry.feed.v1.AuditService",), frozenset({"auditor"}), "CALLER_NOT_PERMITTED")
SOCKETS = {
    "web": Place(Role.SOURCE, (INTAKE,)),
    "feed-admin": Place(Role.ADMINISTRATOR, (INTAKE, *ADMINISTRATION)),
    "feed-import": Place(Role.IMPORTER, (INTAKE,)),
}


def expected_at_feed(place: Place, caller: str, rpc: Rpc) -> str:
    if caller in REFUSED_IN_HANDSHAKE:
        return UNAVAILABLE
    if rpc.name.partition("/")[0] not in place.services:
        return UNIMPLEMENTED
    if place.role not in PERMISSIONS[rpc.name]:
        return DENIED + "CALLER_NOT_PERMITTED"
    return SERVED if not place.refusal or caller in place.permitted else DENIED + place.refusal


@dataclass(frozen=True)
class SecureFeed:
    """A running feed, and whose certificates it takes."""

    secure: SecureInstallation
    theirs: Authority
    intake: TcpAddress
    audit: TcpAddress


@pytest.fixture
async def feed(short_directory: Path) -> AsyncIterator[SecureFeed]:
    secure = install_secure(short_directory)
    web = {"name": "web", "address": secure.installation.socket("web"), "max_proof": 3, "max_assurance": 2}
    partner = {
        "name": "partner",
        "address": "127.0.0.1:0",
        "tls": secure.feed_secret.settings,
        "certificate_names": [PARTNER, CRM],
    }
    # Two listeners never have the same address, so that only one of them may take any free port.
    audit = {
        "address": f"127.0.0.1:{find_free_port()}",
        "tls": secure.feed_secret.settings,
        "certificate_names": [AUDITOR],
    }
    async with running_feed(secure.feed_settings(sources=[web, partner], audit=audit)) as running:
        intake, auditing = running.addresses[2], running.addresses[-1]
        assert isinstance(intake, TcpAddress)
        assert isinstance(auditing, TcpAddress)
        yield SecureFeed(secure, make_authority(short_directory / "theirs"), intake, auditing)


def test_every_rpc_of_the_feed_has_its_row() -> None:
    reflection = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert {rpc.name for rpc in FEED_RPCS} | {reflection} == set(PERMISSIONS)


@pytest.mark.parametrize("caller", CALLERS)
async def test_feed_over_tls_serves_whom_the_table_names(feed: SecureFeed, caller: str) -> None:
    places = {
        f"127.0.0.1:{feed.secure.port}": SYNC,
        format_address(feed.intake): PARTNER_INTAKE,
        format_address(feed.audit): AUDIT,
    }
    credentials = CALLERS[caller](feed.secure.authority, feed.theirs)
    for target, place in places.items():
        outcomes = await list_outcomes(target, credentials, FEED_RPCS)
        assert outcomes == {rpc.name: expected_at_feed(place, caller, rpc) for rpc in FEED_RPCS}


@pytest.mark.parametrize("name", SOCKETS)
async def test_feed_on_a_socket_serves_what_the_table_gives_to_its_role(feed: SecureFeed, name: str) -> None:
    outcomes = await list_outcomes(feed.secure.installation.socket(name), None, FEED_RPCS)
    assert outcomes == {rpc.name: expected_at_feed(SOCKETS[name], "", rpc) for rpc in FEED_RPCS}


async def test_feed_serves_health_nowhere_and_reflection_only_where_it_is_on(feed: SecureFeed) -> None:
    services = ("grpc.health.v1.Health/Check", "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for name in SOCKETS:
        rpcs = [Rpc(service, b"") for service in services]
        outcomes = await list_outcomes(feed.secure.installation.socket(name), None, rpcs)
        assert outcomes == dict.fromkeys(services, UNIMPLEMENTED)


@pytest.mark.parametrize("allowed", list(Method))
async def test_sidecar_serves_a_caller_its_own_methods_and_nobody_else_any(
    short_directory: Path, allowed: Method
) -> None:
    secure, theirs = install_secure(short_directory), make_authority(short_directory / "theirs")
    caller = {"name": "mailer", "methods": [allowed.value], "detail": "full"}
    listeners = [
        {
            "address": "127.0.0.1:0",
            "tls": secure.feed_secret.settings,
            "callers": [caller | {"identity": MAILER}],
        },
        {"address": secure.installation.socket("app"), "callers": [caller]},
    ]
    audit = {"address": f"127.0.0.1:{find_free_port()}", "tls": secure.feed_secret.settings, "auditors": [AUDITOR]}
    journal = {rpc.name for rpc in SIDECAR_RPCS if rpc.name.startswith(JOURNAL_SERVICE)}
    own = {
        rpc.name: SERVED if rpc.name == f"{SERVICE}/{allowed.value}" else DENIED + "METHOD_NOT_PERMITTED"
        for rpc in SIDECAR_RPCS
    } | dict.fromkeys(journal, UNIMPLEMENTED)
    settings = secure.sidecar_settings(listeners=listeners, audit=audit)
    async with running_sidecar(settings, boot_id="test") as sidecar:
        address, auditing = format_address(sidecar.addresses[0]), format_address(sidecar.addresses[-1])
        seen: dict[str, dict[str, str]] = {}
        audited: dict[str, dict[str, str]] = {}
        for name, make in CALLERS.items():
            seen[name] = await list_outcomes(address, make(secure.authority, theirs), SIDECAR_RPCS)
            audited[name] = await list_outcomes(auditing, make(secure.authority, theirs), SIDECAR_RPCS)
        for name, socket in {"socket": "app", "administration": "sidecar-1-admin"}.items():
            seen[name] = await list_outcomes(secure.installation.socket(socket), None, SIDECAR_RPCS)
    everything = dict.fromkeys(own, SERVED)
    nothing = dict.fromkeys(own, DENIED + "METHOD_NOT_PERMITTED") | dict.fromkeys(journal, UNIMPLEMENTED)
    kept_out = {name: dict.fromkeys(own, UNAVAILABLE) for name in REFUSED_IN_HANDSHAKE}
    expected = dict.fromkeys(CALLERS, nothing) | kept_out
    assert seen == expected | {"service": own, "socket": own, "administration": everything}
    no_auditor = dict.fromkeys(own, UNIMPLEMENTED) | dict.fromkeys(journal, DENIED + "METHOD_NOT_PERMITTED")
    auditor = dict.fromkeys(own, UNIMPLEMENTED) | dict.fromkeys(journal, SERVED)
    assert audited == dict.fromkeys(CALLERS, no_auditor) | kept_out | {"auditor": auditor}
