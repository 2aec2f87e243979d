"""The command `consentry` against real servers, run as `main` runs."""

import hashlib
import io
import json
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from consentry.intake.v1 import intake_pb2
from consentry_client import Reason, device, email, phone, user
from consentry_client.cli import main
from consentry_client.testing import FakeIntake, FakeSidecar

from tests.integration.client.raw_server import RawServer

SECRET = "ada.lovelace@example.com"
ADA = email(SECRET)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    sidecar: FakeSidecar,
    intake: FakeIntake,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs the command with both addresses in the environment; returns exit code, output and errors."""
    monkeypatch.setenv("CONSENTRY_ADDRESS", sidecar.address)
    monkeypatch.setenv("CONSENTRY_INTAKE_ADDRESS", intake.address)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str, typed: str | bytes = "") -> tuple[int, str, str]:
        raw = typed if isinstance(typed, bytes) else typed.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), "utf-8"))
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert isinstance(caught.value.code, int)
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        return caught.value.code, shown.out, shown.err

    return call


def test_check_of_allowed_person_exits_0(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    code, out, err = run("check", "--email", SECRET, "--purpose", "marketing")
    assert (code, err) == (0, "")
    assert out.startswith("ALLOW GRANTED")
    assert "decision id" in out


def test_check_of_denied_person_exits_1(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.deny(ADA, "marketing")
    code, out, err = run("check", "--email", SECRET, "-p", "marketing")
    assert (code, err) == (1, "")
    assert out.startswith("DENY OPT_OUT")


def test_check_as_json_is_one_object_on_one_line(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    code, out, _ = run("check", "--email", SECRET, "-p", "marketing", "--json")
    assert code == 0
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert uuid.UUID(answer.pop("decision_id")).int
    assert answer == {
        "allowed": True, "effect": "ALLOW", "reason": "GRANTED", "deciding_seq": 0, "log_size": 1, "policy_version": 1,
        "staleness_ms": 0, "valid_until": None, "error": "", "error_reason": "",
    }  # fmt: skip


def test_check_sends_every_option(run: Run, sidecar: FakeSidecar) -> None:
    run(
        "check", "--email", SECRET, "--phone", "+4930000000", "--user", "17", "--device", "d1", "--id", "loyalty=a=b",
        "-p", "marketing", "-p", "analytics", "--jurisdiction", "DE", "--jurisdiction", "EU", "--age-band", "teen",
        "--gpc", "--recipient", "shop", "--data-category", "health", "--min-token", "log:1", "--wait", "0.5",
    )  # fmt: skip
    call = sidecar.calls[0]
    assert [str(one.value) for one in call.subjects[0]] == [SECRET, "+4930000000", "17", "d1", "a=b"]
    assert call.subjects[0][:4] == (ADA, phone("+4930000000"), user("17"), device("d1"))
    assert call.purposes == ("marketing", "analytics")
    assert call.context == decision_pb2.Context(
        jurisdictions=["DE", "EU"],
        age_band=event_pb2.AGE_BAND_TEEN,
        sec_gpc=True,
        recipient="shop",
        data_categories=["health"],
    )
    assert call.consistency == decision_pb2.Consistency(
        min=event_pb2.ConsistencyToken(origin="log", seq=1), wait_ms=500
    )


def test_check_with_dash_reads_identifiers_from_standard_input(run: Run, sidecar: FakeSidecar) -> None:
    run("check", "--email", "-", "--id", "user=-", "-p", "marketing", typed=f"{SECRET}\r\n17\n")
    assert sidecar.calls[0].subjects == ((ADA, user("17")),)


def test_check_with_explain_shows_the_rules(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    code, out, _ = run("check", "--email", SECRET, "-p", "marketing", "--explain")
    assert code == 0
    assert "the fake was told so" in out
    assert "could not prove" in out


EXPLAINED = decision_pb2.ExplainResponse(
    check=decision_pb2.CheckResponse(
        effect=decision_pb2.EFFECT_DENY, reason=decision_pb2.REASON_OPT_OUT, deciding_seq=7, decision_id=bytes(16)
    ),
    rules=[decision_pb2.RuleTrace(rule=11, purpose="[bold]marketing", fired=True, note="a live denial")],
    deciding_event=decision_pb2.DecidingEvent(
        seq=7,
        entry=event_pb2.Entry(event_bytes=b"e"),
        inclusion_proof=[bytes([1] * 32), bytes([2] * 32)],
        tree_size=9,
        root_hash=bytes(32),
        checkpoint=b"log\n9\n",
    ),
)


@pytest.mark.parametrize("as_json", [True, False])
def test_check_with_explain_shows_the_deciding_event(run: Run, raw: RawServer, as_json: bool) -> None:
    raw.answer = lambda _: EXPLAINED.SerializeToString()
    options = ["--json"] if as_json else []
    code, out, _ = run("check", "--user", "17", "-p", "m", "--explain", "--address", raw.address, *options)
    assert code == 1
    assert "01" * 32 in out
    if as_json:
        answer = json.loads(out)
        assert answer["rules"] == [{"rule": 11, "purpose": "[bold]marketing", "fired": True, "note": "a live denial"}]
        assert answer["deciding_event"]["seq"] == 7
        assert answer["deciding_event"]["checkpoint"] == "log\n9\n"
    else:
        # What comes from a server is text and not markup.
        assert "[bold]marketing" in out


def test_check_with_explain_where_it_is_not_permitted_says_so(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.fail_with(grpc.StatusCode.PERMISSION_DENIED, "METHOD_NOT_PERMITTED")
    code, out, err = run("check", "--email", SECRET, "-p", "marketing", "--explain")
    assert code == 2
    assert "METHOD_NOT_PERMITTED" in out
    assert "does not permit explanations" in err


@pytest.mark.parametrize("command", [["check", "--user", "17", "-p", "m"], ["status"], ["opt-out", "--user", "17"]])
def test_command_without_socket_exits_2_and_names_the_path(run: Run, tmp_path: Path, command: list[str]) -> None:
    code, _, err = run(*command, "--address", f"unix://{tmp_path}/no.sock")
    assert code == 2
    assert f"there is no socket {tmp_path}/no.sock" in err


def test_command_with_socket_that_nobody_serves_says_so(run: Run, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(socket_path))
    code, _, err = run("check", "--user", "17", "-p", "m", "--address", f"unix://{socket_path}", "--timeout", "0.5")
    assert code == 2
    assert "nothing answers" in err


def test_check_without_server_as_json_still_prints_the_deny(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("check", "--user", "17", "-p", "m", "--json", "--address", f"unix://{tmp_path}/no.sock")
    assert code == 2
    assert json.loads(out)["reason"] == Reason.CLIENT_UNAVAILABLE


def test_opt_out_prints_reference_and_token_that_check_takes(run: Run, sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    code, out, _ = run("opt-out", "--email", "-", "--json", typed=SECRET)
    accepted = json.loads(out)
    assert code == 0
    assert uuid.UUID(accepted["reference"]).int
    code, out, _ = run("check", "--email", SECRET, "-p", "marketing", "--min-token", accepted["token"])
    assert (code, out.split()[1]) == (1, "OPT_OUT")


def test_opt_out_with_its_key_again_says_that_it_was_there(run: Run) -> None:
    run("opt-out", "--email", SECRET, "--idempotency-key", "k")
    code, out, _ = run("opt-out", "--email", SECRET, "--idempotency-key", "k")
    assert code == 0
    assert out.startswith("RECORDED already earlier")


def test_opt_out_refused_exits_2_with_the_feeds_reason(run: Run, intake: FakeIntake) -> None:
    intake.fail_with(grpc.StatusCode.INVALID_ARGUMENT, "IDENTIFIER_INVALID")
    code, out, err = run("opt-out", "--email", SECRET)
    assert (code, out) == (2, "")
    assert "not accepted [IDENTIFIER_INVALID]" in err


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, ""),
        (grpc.StatusCode.UNAVAILABLE, "LOG_WRITE_FAILED"),
        (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
    ],
)
def test_opt_out_of_unknown_outcome_names_the_key_to_repeat_it(
    run: Run, intake: FakeIntake, status: grpc.StatusCode, reason: str
) -> None:
    intake.fail_with(status, reason)
    code, _, err = run("opt-out", "--email", SECRET, "--idempotency-key", "k-17")
    assert code == 2
    assert reason in err
    assert "idempotency key: k-17" in err
    assert "nothing answers" not in err


def test_grant_sends_every_option(run: Run, intake: FakeIntake, tmp_path: Path) -> None:
    (tmp_path / "session.json").write_bytes(b"an assertion")
    code, _, err = run(
        "grant", "--user", "17", "-p", "analytics", "--proof", "authenticated", "--assurance", "account",
        "--expires-at", "2027-01-01T01:00:00+01:00", "--subtree", "--notice-version", "3", "--recipient", "shop",
        "--explicit", "--evidence", str(tmp_path / "session.json"),
        "--granted-by", "guardian", "--occurred-at", "2026-01-01T00:00:00Z", "--idempotency-key", "k",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert intake.recorded[0].request == intake_pb2.RecordDirectiveRequest(
        idempotency_key="k",
        directive=intake_pb2.Directive(
            identifier=event_pb2.Identifier(namespace="user", value="17"),
            purpose="analytics",
            kind=event_pb2.DIRECTIVE_KIND_GRANT,
            occurred_at_ms=1_767_225_600_000,
            proof=event_pb2.PROOF_AUTHENTICATED,
            assurance=event_pb2.ASSURANCE_ACCOUNT,
            expires_at_ms=1_798_761_600_000,
            subtree=True,
            notice_version=3,
            recipient="shop",
            explicit=True,
            granted_by=event_pb2.GRANTED_BY_GUARDIAN,
        ),
        evidence_digest=hashlib.sha256(b"an assertion").digest(),
    )


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "EVIDENCE_UNREADABLE"), (b"", "EVIDENCE_EMPTY")], ids=["missing", "empty"]
)
def test_grant_with_a_file_that_is_no_evidence_sends_nothing(
    run: Run, intake: FakeIntake, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "session.json"
    if content is not None:
        file.write_bytes(content)
    code, _, err = run("grant", "--user", "17", "-p", "analytics", "--proof", "authenticated", "--evidence", str(file))
    assert (code, reason in err, intake.calls) == (2, True, 0)


@pytest.mark.parametrize("command", [("grant", "--user", "17", "-p", "x"), ("link", "--left", "a=1", "--right", "b=1")])
def test_proof_without_evidence_sends_nothing_and_says_what_is_missing(
    run: Run, intake: FakeIntake, command: tuple[str, ...]
) -> None:
    code, _, err = run(*command, "--proof", "double-opt-in")
    assert (code, "evidence is needed" in err, intake.calls) == (2, True, 0)


def test_link_reads_both_ends_from_standard_input(run: Run, intake: FakeIntake) -> None:
    code, _, err = run("link", "--left", "user=-", "--right", "email=-", "--proof", "link", typed=f"17\n{SECRET}\n")
    assert (code, err) == (0, "")
    request = intake.recorded[0].request
    assert isinstance(request, intake_pb2.RecordLinkRequest)
    assert (request.left.value, request.right.value, request.proof) == ("17", SECRET, event_pb2.PROOF_LINK)


def test_status_shows_what_the_sidecar_holds(run: Run) -> None:
    code, out, _ = run("status")
    assert code == 0
    assert "IN_SYNC" in out
    assert "fake.example/log" in out


def test_status_as_json_has_every_field(run: Run) -> None:
    code, out, _ = run("status", "--json")
    assert code == 0
    assert json.loads(out).keys() == {field.name for field in decision_pb2.GetStatusResponse.DESCRIPTOR.fields}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "say what to do"),
        ([SECRET], "unknown command"),
        (["check", SECRET, "-p", "m"], "identifier goes behind"),
        (["check", "-p", "m"], "say who"),
        (["check", "--email", SECRET], "--purpose is missing"),
        (["check", "--emial", SECRET, "-p", "m"], "unknown"),
        (["check", f"--{SECRET}", "-p", "m"], "unknown"),
        (["check", "--id", SECRET, "-p", "m"], "NAMESPACE=VALUE"),
        (["check", "--id", f"{SECRET}=17", "-p", "m"], "namespace of an identifier"),
        (["check", "--user", "", "-p", "m"], "no value"),
        (["check", "--user", "17", "-p", "m", "--timeout", SECRET], "--timeout has a value"),
        (["check", "--user", "17", "-p", "m", "--age-band", SECRET], "--age-band has a value"),
        (["check", "--user", "17", "-p", "m", "--min-token", SECRET], "origin:seq"),
        (["check", "--user", "17", "-p", "m", "--address", SECRET], "an address is"),
        (["check", "--user", "17", "-p", "m", "--tls-ca", "x"], "belong together"),
        (["opt-out"], "exactly one identifier"),
        (["opt-out", "--user", "17", "--email", SECRET], "exactly one identifier"),
        (["opt-out", "--user", "17", "--occurred-at", SECRET], "--occurred-at must be a time"),
        (["opt-out", "--user", "17", "--occurred-at", "2026-01-01"], "needs a time zone"),
        (["opt-out", "--user", "17", "--idempotency-key", ""], "1 to 128 printable characters"),
        (["grant", "--user", "17", "-p", "m"], "--proof is missing"),
        (["link", "--left", SECRET, "--right", "user=17", "--proof", "link"], "NAMESPACE=VALUE"),
        (["status", SECRET], "an argument too many"),
    ],
    ids=lambda value: " ".join(value).replace(SECRET, "SECRET") if isinstance(value, list) else "",
)
def test_command_misused_exits_2_and_never_repeats_what_was_typed(run: Run, arguments: list[str], fault: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert fault in err or fault in out


@pytest.mark.parametrize(
    ("typed", "fault"), [(b"", "no value"), (b"\n", "no value"), (b"\xff\xfe\n", "not valid text")]
)
def test_check_with_unusable_standard_input_exits_2(run: Run, typed: bytes, fault: str) -> None:
    code, _, err = run("check", "--email", "-", "-p", "m", typed=typed)
    assert code == 2
    assert fault in err


def test_check_of_identifier_that_is_no_unicode_is_denied(run: Run) -> None:
    code, out, _ = run("check", "--email", "ada\udcff@example.com", "-p", "m")
    assert (code, out.split()[1]) == (1, "INVALID_REQUEST")


def test_command_with_a_bug_shows_only_its_kind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("consentry_client.cli.check_command.Client", fail)
    code, _, err = run("check", "--email", SECRET, "-p", "m")
    assert code == 2
    assert "RuntimeError" in err


@pytest.mark.parametrize("command", ["check", "opt-out", "grant", "link", "status"])
def test_help_of_every_command_teaches(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Exit code" in out
    assert f"consentry {command} " in out.partition("Examples")[2]
