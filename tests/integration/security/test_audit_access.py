"""Auditors at the feed: what they get by themselves, what only through an administrator, and that the log says so of every call."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import audit_pb2, audit_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc
from consentry.intake.v1 import backup_pb2, backup_pb2_grpc, intake_pb2, intake_pb2_grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError
from typer.testing import CliRunner

from consent.event import AdminEvent, DirectiveEvent, parse_event
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.key_ring import open_key_ring
from consent.vocabulary.subject import Pseudonymiser, Tokeniser
from feed.cli import app
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import audit_day_key, load_keys
from hosting.addresses import format_address
from hosting.grpc_errors import REASON_KEY
from hosting.tls import channel_credentials
from journal.auditor_key import AuditorPublicKey, format_auditor_key
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TENANT, TestInstallation, install
from tests.fakes.system import policy_event
from tests.integration.security.secure_system import install_secure

AUDITOR = "spiffe://shop.example/internal-audit"
AUDIT_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
SECRET_NAME = "ada.lovelace"
DAY = 20_000
HOUR = 3600.0


@dataclass
class Site:
    """A feed whose log grows by nothing but what a test does."""

    installation: TestInstallation
    feed: RunningFeed

    @property
    def keys(self) -> Any:
        return load_keys(self.installation.directory / "keys", ORIGIN)

    def socket(self, name: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.installation.socket(name))

    async def admin_events(self) -> list[AdminEvent]:
        entries = await self.feed.log.read_entries(1, self.feed.log.head.size)
        events = [parse_event(entry.event_bytes) for entry in entries]
        return [event for event in events if isinstance(event, AdminEvent)]

    async def log_bytes(self) -> bytes:
        return b"".join(entry.event_bytes for entry in await self.feed.log.read_entries(1, self.feed.log.head.size))

    async def opt_out(self, value: str) -> int:
        token = Tokeniser([self.keys.subject_key]).token("user", value)
        event = DirectiveEvent(origin=ORIGIN, token=token, kind=2, occurred_at_ms=1, purpose="*", assurance=1)
        return (await self.feed.log.submit(self.installation.signers.submit([event]))).seq


def quiet(directory: Path, refusals_seconds: float = HOUR) -> dict[str, Any]:
    return {
        "directory": directory / "log",
        "keys_directory": directory / "keys",
        "receipts_seconds": HOUR,
        "admin_refusals_seconds": refusals_seconds,
    }


@pytest.fixture
async def site(short_directory: Path) -> AsyncIterator[Site]:
    installation = install(short_directory)
    audit = {"address": installation.socket("feed-audit")}
    settings = installation.feed_settings(audit=audit, event_log=quiet(short_directory))
    async with running_feed(settings) as feed:
        await feed.log.submit(installation.signers.submit([policy_event(POLICY)]))
        yield Site(installation, feed)


async def refusal_of(call: Any) -> tuple[str, str]:
    """Status and reason with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reasons = [str(value) for key, value in caught.value.trailing_metadata() or () if key == REASON_KEY]
    return caught.value.code().name, "".join(reasons)


async def read_to_end(call: Any) -> None:
    async for _ in call:
        pass


def ask_about(value: str = SECRET_NAME, **changes: Any) -> audit_pb2.ResolveRequest:
    fields: dict[str, Any] = {
        "identifier": event_pb2.Identifier(namespace="user", value=value),
        "from_day": DAY,
        "to_day": DAY + 1,
        "purpose": "request DSAR-118",
    }
    return audit_pb2.ResolveRequest(**(fields | changes))


# --- what an auditor may


async def test_auditors_socket_is_its_owners_alone(site: Site) -> None:
    path = Path(site.installation.socket("feed-audit").removeprefix("unix://"))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_auditor_gets_neither_pseudonyms_nor_replay_keys_and_the_attempt_is_logged(site: Site) -> None:
    async with site.socket("feed-audit") as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        denied = ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
        assert await refusal_of(stub.Resolve(ask_about())) == denied
        keys = audit_pb2.GetReplayKeysRequest(
            recipient_public_key=AUDIT_KEY.public_key().public_bytes_raw(), recipient_name="auditor"
        )
        assert await refusal_of(stub.GetReplayKeys(keys)) == denied
        assert (await stub.GetFleetStatus(audit_pb2.GetFleetStatusRequest())).log_size
        trail = await stub.GetEventTrail(audit_pb2.GetEventTrailRequest(seq=1))
        assert trail.seq == 1
    assert await site.admin_events() == []
    await flush(site)
    told = [(event.action.partition("/")[2], event.role, event.outcome) for event in await site.admin_events()]
    assert told == [
        ("Resolve", "auditor", "CALLER_NOT_PERMITTED"),
        ("GetReplayKeys", "auditor", "CALLER_NOT_PERMITTED"),
        # Entry by entry it would be the whole log.
        ("GetEventTrail", "auditor", "OK"),
    ]
    assert SECRET_NAME.encode() not in await site.log_bytes()


async def flush(site: Site) -> None:
    """Have what was gathered logged, as the end of the period would."""
    await site.feed.admin_log.flush()


async def test_auditor_over_tls_is_told_apart_by_the_name_in_the_certificate(short_directory: Path) -> None:
    secure = install_secure(short_directory)
    audit = {"address": "127.0.0.1:0", "tls": secure.feed_secret.settings, "certificate_names": [AUDITOR]}
    async with running_feed(secure.feed_settings(audit=audit, event_log=quiet(short_directory))) as feed:
        site = Site(secure.installation, feed)
        address = format_address(feed.addresses[-1])
        for name, uris, dns in (
            ("auditor", [AUDITOR], []),
            ("partner", ["spiffe://partner.example/audit"], []),
            ("mail", ["mailto:ada@example.com"], []),
            ("nobody", [], []),
            ("dns", [], ["internal-audit.shop.example"]),
        ):
            files = secure.authority.issue(name, *uris, dns=dns)
            credentials = channel_credentials(files.cert_file, files.key_file, secure.authority.ca_file)
            async with grpc.aio.secure_channel(address, credentials) as channel:
                call = audit_pb2_grpc.AuditServiceStub(channel).ReadLog(audit_pb2.ReadLogRequest(from_seq=1))
                if name == "auditor":
                    await read_to_end(call)
                else:
                    assert await refusal_of(read_to_end(call)) == ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
        await flush(site)
        told = [(event.actor, event.outcome) for event in await site.admin_events()]
        refused = "CALLER_NOT_PERMITTED"
        assert told == [
            (AUDITOR, "OK"),
            ("spiffe://partner.example/audit", refused),
            ("(other name)", refused),
            ("auditor", refused),
            ("internal-audit.shop.example", refused),
        ]
        assert b"ada@example" not in await site.log_bytes()


@pytest.mark.parametrize(
    "audit",
    [
        {"address": "127.0.0.1:0"},
        {"address": "127.0.0.1:0", "certificate_names": [AUDITOR]},
        {"address": "unix:///tmp/a.sock", "certificate_names": [AUDITOR]},
        {"address": "{admin}"},
    ],
)
def test_auditors_listener_without_what_tells_callers_apart_is_refused(
    short_directory: Path, audit: dict[str, Any]
) -> None:
    installation = install(short_directory)
    audit["address"] = audit["address"].format(admin=installation.socket("feed-admin"))
    with pytest.raises(ValidationError):
        installation.feed_settings(audit=audit)


# --- refused calls


async def test_refused_calls_of_every_listener_are_counted_and_a_flood_is_one_entry(site: Site) -> None:
    size = site.feed.log.head.size
    publish = intake_pb2.PublishPolicyRequest(document=b"{}")
    async with site.socket("sync") as sync, site.socket("feed-import") as importing, site.socket("web") as web:
        # Methods that the listener serves, and its role may not call.
        link = intake_pb2_grpc.IntakeServiceStub(importing).RecordLink
        for _ in range(200):
            await refusal_of(link(intake_pb2.RecordLinkRequest()))
        # What a listener does not serve at all is nothing that could be permitted.
        assert await refusal_of(intake_pb2_grpc.PolicyServiceStub(web).PublishPolicy(publish)) == ("UNIMPLEMENTED", "")
        assert await refusal_of(audit_pb2_grpc.AuditServiceStub(sync).Resolve(ask_about())) == ("UNIMPLEMENTED", "")
    assert site.feed.log.head.size == size
    await flush(site)
    (event,) = await site.admin_events()
    assert (event.action, event.role, event.actor, event.outcome, event.count) == (
        "consentry.intake.v1.IntakeService/RecordLink",
        "importer",
        "import",
        "CALLER_NOT_PERMITTED",
        200,
    )


async def test_source_that_may_not_call_a_method_is_logged_as_refused(short_directory: Path) -> None:
    installation = install(short_directory)
    web = {"name": "web", "address": installation.socket("web"), "methods": ["RecordFact"]}
    settings = installation.feed_settings(sources=[web], event_log=quiet(short_directory))
    async with running_feed(settings) as feed:
        site = Site(installation, feed)
        async with site.socket("web") as channel:
            stub = intake_pb2_grpc.IntakeServiceStub(channel)
            call = stub.RecordDirectives(iter([intake_pb2.RecordDirectivesRequest()]))
            assert await refusal_of(read_to_end(call)) == ("PERMISSION_DENIED", "SOURCE_NOT_PERMITTED")
        await flush(site)
        (event,) = await site.admin_events()
        assert (event.role, event.actor, event.outcome) == ("source", "web", "SOURCE_NOT_PERMITTED")


async def test_feed_that_stops_logs_what_was_gathered(short_directory: Path) -> None:
    installation = install(short_directory)
    settings = installation.feed_settings(event_log=quiet(short_directory))
    async with running_feed(settings) as feed, Site(installation, feed).socket("feed-import") as channel:
        await refusal_of(intake_pb2_grpc.IntakeServiceStub(channel).RecordLink(intake_pb2.RecordLinkRequest()))
    async with running_feed(settings) as feed:
        (event,) = await Site(installation, feed).admin_events()
        assert event.outcome == "CALLER_NOT_PERMITTED"


# --- privileged calls


Call = Callable[[grpc.aio.Channel], Any]
PRIVILEGED: dict[str, tuple[Call, str, str]] = {
    "PublishPolicy": (
        lambda channel: intake_pb2_grpc.PolicyServiceStub(channel).PublishPolicy(
            intake_pb2.PublishPolicyRequest(document=b"no policy")
        ),
        "POLICY_REJECTED",
        "",
    ),
    "BeginKeyEpoch": (
        lambda channel: intake_pb2_grpc.SubjectServiceStub(channel).BeginKeyEpoch(
            intake_pb2.BeginKeyEpochRequest(epoch=1)
        ),
        "OK",
        "",
    ),
    "EraseSubject": (
        lambda channel: intake_pb2_grpc.SubjectServiceStub(channel).EraseSubject(
            intake_pb2.EraseSubjectRequest(identifier=event_pb2.Identifier(namespace="user", value=SECRET_NAME))
        ),
        "OK",
        "",
    ),
    "BackUpLog": (
        lambda channel: backup_pb2_grpc.BackupServiceStub(channel).BackUpLog(backup_pb2.BackUpLogRequest()),
        "OK",
        "",
    ),
    "ResumeIntake": (
        lambda channel: backup_pb2_grpc.BackupServiceStub(channel).ResumeIntake(backup_pb2.ResumeIntakeRequest()),
        "OK",
        "",
    ),
    "IssueEnrolmentToken": (
        lambda channel: enrolment_pb2_grpc.EnrolmentServiceStub(channel).IssueEnrolmentToken(
            enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id="pod-7", valid_seconds=60)
        ),
        "OK",
        "sidecar pod-7",
    ),
    "ApproveEnrolment": (
        lambda channel: enrolment_pb2_grpc.EnrolmentServiceStub(channel).ApproveEnrolment(
            enrolment_pb2.ApproveEnrolmentRequest(sidecar_id="pod-7")
        ),
        "SIDECAR_UNKNOWN",
        "sidecar pod-7",
    ),
    "RetireSidecar": (
        lambda channel: enrolment_pb2_grpc.EnrolmentServiceStub(channel).RetireSidecar(
            enrolment_pb2.RetireSidecarRequest(sidecar_id="a person")
        ),
        "INVALID_REQUEST",
        "",
    ),
    "ReadLog": (
        lambda channel: audit_pb2_grpc.AuditServiceStub(channel).ReadLog(audit_pb2.ReadLogRequest(from_seq=1)),
        "OK",
        "from entry 1",
    ),
}


@pytest.mark.parametrize("name", PRIVILEGED)
async def test_privileged_call_is_in_the_log_when_its_answer_comes(site: Site, name: str) -> None:
    call, outcome, detail = PRIVILEGED[name]
    async with site.socket("feed-admin") as channel:
        made = call(channel)
        try:
            await (read_to_end(made) if hasattr(made, "__aiter__") else made)
            reason = "OK"
        except grpc.aio.AioRpcError as error:
            reason = "".join(str(value) for key, value in error.trailing_metadata() or () if key == REASON_KEY)
    assert reason == outcome
    (event,) = await site.admin_events()
    assert (event.action.partition("/")[2], event.role, event.actor) == (name, "administrator", "administrator")
    assert (event.outcome, event.count, event.detail) == (outcome, 1, detail)
    assert b"a person" not in await site.log_bytes()


async def test_reads_that_tell_nothing_about_people_are_not_logged(site: Site) -> None:
    size = site.feed.log.head.size
    async with site.socket("feed-admin") as channel:
        policies = intake_pb2_grpc.PolicyServiceStub(channel)
        await policies.GetPolicy(intake_pb2.GetPolicyRequest())
        await policies.GetFeedStatus(intake_pb2.GetFeedStatusRequest())
        await audit_pb2_grpc.AuditServiceStub(channel).GetFleetStatus(audit_pb2.GetFleetStatusRequest())
        pending = enrolment_pb2.ListPendingEnrolmentsRequest()
        await enrolment_pb2_grpc.EnrolmentServiceStub(channel).ListPendingEnrolments(pending)
    await flush(site)
    assert site.feed.log.head.size == size


async def test_nothing_is_disclosed_while_the_log_takes_no_entry_and_a_backup_is_made_all_the_same(site: Site) -> None:
    site.feed.log.stop_intake("somebody holds more")
    async with site.socket("feed-admin") as channel:
        stub, stopped = audit_pb2_grpc.AuditServiceStub(channel), ("FAILED_PRECONDITION", "LOG_BEHIND_SIDECAR")
        assert await refusal_of(stub.Resolve(ask_about())) == stopped
        assert await refusal_of(read_to_end(stub.ReadLog(audit_pb2.ReadLogRequest(from_seq=1)))) == stopped
        token = enrolment_pb2.IssueEnrolmentTokenRequest(sidecar_id="pod-7", valid_seconds=60)
        assert await refusal_of(enrolment_pb2_grpc.EnrolmentServiceStub(channel).IssueEnrolmentToken(token)) == stopped
        await read_to_end(backup_pb2_grpc.BackupServiceStub(channel).BackUpLog(backup_pb2.BackUpLogRequest()))
    site.feed.log.resume_intake()
    assert await site.admin_events() == []
    await flush(site)
    told = {event.action.partition("/")[2]: event.outcome for event in await site.admin_events()}
    assert told == dict.fromkeys(["Resolve", "ReadLog", "IssueEnrolmentToken"], "LOG_BEHIND_SIDECAR") | {
        "BackUpLog": "OK"
    }


# --- resolve


async def test_resolve_tells_what_stands_for_somebody_and_the_log_says_who_asked_why_and_not_about_whom(
    site: Site,
) -> None:
    first = await site.opt_out(SECRET_NAME)
    await site.opt_out("bob")
    async with site.socket("feed-admin") as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        await intake_pb2_grpc.SubjectServiceStub(channel).BeginKeyEpoch(intake_pb2.BeginKeyEpochRequest(epoch=1))
        second = await site.opt_out(SECRET_NAME)
        found = await stub.Resolve(ask_about(SECRET_NAME))
    keys = site.keys
    tokeniser = Tokeniser([keys.subject_key, *keys.later_subject_keys])
    tokens = [Tokeniser([keys.subject_key]).token("user", SECRET_NAME), tokeniser.token("user", SECRET_NAME)]
    assert list(found.tokens) == tokens
    expected = {
        day: [Pseudonymiser(audit_day_key(keys.audit_master, day)).pseudonym(token) for token in tokens]
        for day in (DAY, DAY + 1)
    }
    assert {day.day: list(day.pseudonyms) for day in found.days} == expected
    assert list(found.seqs) == [first, second]
    event = (await site.admin_events())[-1]
    assert (event.action, event.detail, event.outcome) == (
        "consentry.feed.v1.AuditService/Resolve",
        "request DSAR-118",
        "OK",
    )
    logged = await site.log_bytes()
    assert all(told not in logged for told in (SECRET_NAME.encode(), *expected[DAY]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"purpose": ""}, "purpose"),
        ({"purpose": "   "}, "purpose"),
        ({"purpose": "about ada@example.com"}, "purpose"),
        ({"purpose": "call 4915112345678"}, "purpose"),
        ({"purpose": "line\nbreak"}, "purpose"),
        ({"purpose": "x" * 201}, "purpose"),
        ({"from_day": 5, "to_day": 4}, "from_day"),
        ({"from_day": 5, "to_day": 405}, "from_day"),
        ({"identifier": event_pb2.Identifier(token=bytes(16))}, "identifier.token"),
        ({"identifier": event_pb2.Identifier(namespace="email", value="nobody")}, "identifier.value"),
    ],
)
async def test_resolve_of_what_may_not_be_asked_is_refused_and_nothing_of_it_is_logged_but_that(
    site: Site, changes: dict[str, Any], field: str
) -> None:
    async with site.socket("feed-admin") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await audit_pb2_grpc.AuditServiceStub(channel).Resolve(ask_about(**changes))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")
    (event,) = await site.admin_events()
    assert event.outcome != "OK"
    assert event.detail == ("" if field in ("purpose", "from_day") else "request DSAR-118")


# --- replay keys


async def test_replay_keys_open_for_the_auditor_alone_and_make_no_token_of_an_identifier(site: Site) -> None:
    async with site.socket("feed-admin") as channel:
        await intake_pb2_grpc.SubjectServiceStub(channel).BeginKeyEpoch(intake_pb2.BeginKeyEpochRequest(epoch=1))
        request = audit_pb2.GetReplayKeysRequest(
            recipient_public_key=AUDIT_KEY.public_key().public_bytes_raw(),
            recipient_name="internal-audit",
            from_day=DAY,
            to_day=DAY + 2,
        )
        response = await audit_pb2_grpc.AuditServiceStub(channel).GetReplayKeys(request)
    ring = open_key_ring(response.sealed_key_ring, AUDIT_KEY, tenant=TENANT, sidecar_id="internal-audit")
    keys = site.keys
    assert ring.subject_keys == (bytes(32), *keys.later_subject_keys)
    assert ring.audit_keys == tuple((day, audit_day_key(keys.audit_master, day)) for day in range(DAY, DAY + 3))
    assert keys.subject_key not in response.sealed_key_ring
    event = (await site.admin_events())[-1]
    assert event.detail.startswith("auditor internal-audit, key sha256:")
    assert event.detail.endswith(f"days {DAY} to {DAY + 2}")


@pytest.mark.parametrize(
    "changes", [{"recipient_name": "ada@example.com"}, {"recipient_public_key": b"short"}, {"from_day": 9, "to_day": 1}]
)
async def test_replay_keys_for_nobody_in_particular_are_refused(site: Site, changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "recipient_public_key": bytes(range(32)),
        "recipient_name": "auditor",
        "from_day": 1,
        "to_day": 2,
    }
    async with site.socket("feed-admin") as channel:
        call = audit_pb2_grpc.AuditServiceStub(channel).GetReplayKeys(
            audit_pb2.GetReplayKeysRequest(**(fields | changes))
        )
        assert (await refusal_of(call))[0] == "INVALID_ARGUMENT"
    assert b"ada@example" not in await site.log_bytes()


# --- commands


async def run(site: Site, *words: str, typed: str = "") -> Any:
    config = site.installation.directory / "feed.yaml"
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, "-c", str(config)], input=typed)


@pytest.fixture
async def commanded(site: Site) -> Site:
    directory = site.installation.directory
    settings = site.installation.feed_settings(event_log=quiet(directory))
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True))
    (directory / "feed.yaml").write_text(text, encoding="utf-8")
    return site


async def test_replay_keys_command_writes_what_only_the_auditor_opens(commanded: Site) -> None:
    directory = commanded.installation.directory
    verifier_key = generate_signing_key("internal-audit", KeyKind.AUDITOR, bytes(32)).verifier_key
    public_key = AuditorPublicKey(AUDIT_KEY.public_key().public_bytes_raw(), verifier_key)
    (directory / "auditor.pub").write_text(f"{format_auditor_key(public_key)}\n", encoding="utf-8")
    out = directory / "replay.keys"
    words = ("replay-keys", "--auditor", str(directory / "auditor.pub"), "--out", str(out))
    result = await run(commanded, *words, "--from", "2026-01-01", "--to", "2026-01-31")
    assert result.exit_code == 0, result.output
    ring = open_key_ring(out.read_bytes(), AUDIT_KEY, tenant=TENANT, sidecar_id="internal-audit")
    assert len(ring.audit_keys) == 31
    assert out.stat().st_mode & 0o777 == 0o600
    assert (await run(commanded, *words, "--from", "January", "--to", "2026-01-31")).exit_code == 2
    (directory / "auditor.pub").write_text("nothing", encoding="utf-8")
    assert (await run(commanded, *words, "--from", "2026-01-01", "--to", "2026-01-31")).exit_code == 2


async def test_resolve_command_takes_the_identifier_from_standard_input(commanded: Site) -> None:
    seq = await commanded.opt_out(SECRET_NAME)
    words = ("resolve", "--id", "user=-", "--purpose", "request DSAR-118")
    result = await run(commanded, *words, "--json", typed=f"{SECRET_NAME}\n")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["seqs"] == [seq]
    assert len(told["days"]) == 1
    text = await run(commanded, *words, "--from", "2026-01-01", "--to", "2026-01-02", typed=f"{SECRET_NAME}\n")
    assert "pseudonyms on 2026-01-02: " in text.stdout
    assert SECRET_NAME not in text.output
    refused = await run(commanded, "resolve", "--id", "user=-", "--purpose", "ada@example.com", typed="x\n")
    assert refused.exit_code == 1
    assert "must not name a person" in refused.output
