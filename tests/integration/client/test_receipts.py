"""Receipts from a real feed, with both clients and the command; what they prove, the command alone decides."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from consentry_client import IntakeError, email
from consentry_client.cli import main
from consentry_client.testing import FakeIntake
from consentry_client.verification import parse_verifier_key, verify_receipt

from consent.eventlog.keys import format_verifier_key
from tests.fakes.feed_log import ORIGIN, SIGNER
from tests.integration.client.asker import Sender
from tests.integration.feed.intake_feed import TOKENISER, IntakeFeed, running_intake

SECRET = "ada.lovelace@example.com"
ADA = email(SECRET)
LOG_KEY = format_verifier_key(SIGNER.log_verifier_key)
COSIGNER_KEY = format_verifier_key(SIGNER.cosigner_verifier_key)

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[IntakeFeed]:
    async with running_intake(tmp_path) as feed:
        yield feed


@pytest.fixture
def address(tmp_path: Path, feed: IntakeFeed) -> str:
    return f"unix://{tmp_path}/feed.sock"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a thread of its own, beside the feed; nothing that it shows names the person."""
    monkeypatch.setenv("COLUMNS", "160")
    hidden = [SECRET, TOKENISER.token("email", SECRET).hex()]

    async def call(*arguments: str) -> tuple[int, str, str]:
        def exit_code() -> object:
            with pytest.raises(SystemExit) as caught:
                main(arguments)
            return caught.value.code

        code = await asyncio.to_thread(exit_code)
        shown = capsys.readouterr()
        assert not any(word in shown.out + shown.err for word in hidden)
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return call


async def opt_out(run: Run, address: str, file: Path) -> dict[str, str]:
    arguments = (
        "opt-out",
        "--email",
        SECRET,
        "-p",
        "marketing",
        "--address",
        address,
        "--receipt",
        str(file),
        "--json",
    )
    code, out, err = await run(*arguments)
    assert (code, err) == (0, "")
    answer: dict[str, str] = json.loads(out)
    return answer


async def test_receipt_of_both_clients_proves_the_opt_out(make_sender: Callable[..., Sender], address: str) -> None:
    sender = make_sender(address)
    accepted = await sender.opt_out(ADA, "marketing", idempotency_key="k")
    for receipt in (await sender.receipt(accepted.token.seq), await sender.receipt(idempotency_key="k")):
        assert (receipt.seq, receipt.request_id) == (accepted.token.seq, accepted.request_id)
        proven = verify_receipt(receipt.receipt_bytes, parse_verifier_key(LOG_KEY))
        assert (proven.seq, proven.reference, proven.origin) == (receipt.seq, accepted.request_id, ORIGIN)
        assert (proven.occurrence.kind, proven.occurrence.purpose) == ("OPT_OUT", "marketing")


async def test_receipt_of_nothing_raises_and_leaves_no_outcome_open(
    make_sender: Callable[..., Sender], address: str
) -> None:
    with pytest.raises(IntakeError) as caught:
        await make_sender(address).receipt(10**6)
    assert (caught.value.reason, caught.value.outcome_unknown) == ("ENTRY_UNKNOWN", False)


@pytest.mark.parametrize("arguments", [{}, {"seq": 1, "idempotency_key": "k"}, {"seq": 0}, {"seq": 2**63}])
async def test_receipt_asked_for_wrongly_is_a_value_error(
    make_sender: Callable[..., Sender], address: str, arguments: dict[str, int | str]
) -> None:
    with pytest.raises(ValueError, match="seq"):
        await make_sender(address).receipt(**arguments)


async def test_command_opt_out_with_receipt_is_verified_with_the_public_key_alone(
    run: Run, address: str, tmp_path: Path
) -> None:
    file, key_file = tmp_path / "ada.tlog-proof", tmp_path / "log.pub"
    key_file.write_text(f"{LOG_KEY}\n", encoding="utf-8")
    answer = await opt_out(run, address, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    arguments = ("verify-receipt", str(file), "--log-key", str(key_file), "--cosigner-key", COSIGNER_KEY)
    code, out, err = await run(*arguments, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["valid"], told["reference"], told["log"]) == (True, answer["reference"], ORIGIN)
    assert f"{told['log']}:{told['seq']}" == answer["token"]
    assert (told["type"], told["kind"], told["purpose"]) == ("DIRECTIVE", "OPT_OUT", "marketing")
    assert told["checkpoint_size"] >= told["seq"]
    assert told["checkpoint_time"] is not None
    code, out, _ = await run(*arguments)
    assert (code, out.startswith("VALID"), answer["reference"] in out) == (0, True, True)


async def test_command_receipt_fetches_the_same_request_later(run: Run, address: str, tmp_path: Path) -> None:
    answer = await opt_out(run, address, tmp_path / "first")
    seq = answer["token"].rpartition(":")[2]
    code, out, _ = await run("receipt", seq, "--out", str(tmp_path / "second"), "--address", address, "--json")
    assert (code, json.loads(out)) == (0, {"reference": answer["reference"], "seq": int(seq)})
    arguments = ("--out", str(tmp_path / "third"), "--address", address)
    code, out, _ = await run("receipt", "--idempotency-key", answer["idempotency_key"], *arguments)
    assert (code, "WRITTEN" in out, answer["reference"] in out) == (0, True, True)
    for name in ("second", "third"):
        code, _, _ = await run("verify-receipt", str(tmp_path / name), "--log-key", LOG_KEY)
        assert code == 0


async def test_command_verify_receipt_of_an_altered_file_exits_1_and_says_why(
    run: Run, address: str, tmp_path: Path
) -> None:
    file = tmp_path / "ada.tlog-proof"
    await opt_out(run, address, file)
    file.write_bytes(file.read_bytes().replace(b"\nindex ", b"\nindex 9", 1))
    arguments = ("verify-receipt", str(file), "--log-key", LOG_KEY)
    code, out, _ = await run(*arguments, "--json")
    assert (code, json.loads(out)) == (1, {"valid": False, "reason": "PROOF_OUT_OF_RANGE"})
    code, out, _ = await run(*arguments)
    assert (code, out.startswith("NOT VALID"), "PROOF_OUT_OF_RANGE" in out) == (1, True, True)


async def test_command_verify_receipt_that_cannot_check_exits_2(run: Run, tmp_path: Path) -> None:
    no_key = tmp_path / "no.pub"
    no_key.write_text("not a key", encoding="utf-8")
    for file, key in (("missing", LOG_KEY), (str(no_key), "missing.pub"), (str(no_key), str(no_key))):
        code, out, err = await run("verify-receipt", file, "--log-key", key)
        assert (code, out) == (2, "")
        assert "FILE_NOT_READ" in err or "KEY_FORM" in err


async def test_command_never_writes_a_receipt_over_a_file_and_then_records_nothing(
    run: Run, address: str, feed: IntakeFeed, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    size = feed.log.sequencer.head.size
    for file, reason in ((taken, "FILE_EXISTS"), (tmp_path / "no" / "folder", "FOLDER_MISSING")):
        code, _, err = await run("opt-out", "--email", SECRET, "--address", address, "--receipt", str(file))
        assert (code, reason in err) == (2, True)
        code, _, err = await run("receipt", "3", "--out", str(file), "--address", address)
        assert (code, reason in err) == (2, True)
    assert feed.log.sequencer.head.size == size
    assert taken.read_text(encoding="utf-8") == "mine"


async def test_command_opt_out_without_its_receipt_still_says_that_it_is_recorded(
    run: Run, intake: FakeIntake, tmp_path: Path
) -> None:
    file = tmp_path / "none"
    # The fake is a feed of the version before.
    arguments = ("opt-out", "--email", SECRET, "--address", intake.address, "--receipt", str(file))
    code, out, err = await run(*arguments)
    assert (code, out.startswith("RECORDED")) == (2, True)
    assert "RECEIPT_MISSING" in err
    assert "the request is recorded" in err
    assert not file.exists()
