"""The client's verifier of receipts, against the vectors that the servers' implementation is tested with."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from consentry_client import ConfigurationError
from consentry_client.verification import InvalidReceipt, ReceiptStatement, parse_verifier_key, verify_receipt

VECTORS = Path(__file__).parents[2] / "vectors" / "receipt"
CANONICAL: dict[str, Any] = json.loads((VECTORS / "canonical.json").read_text(encoding="utf-8"))
BROKEN: dict[str, Any] = json.loads((VECTORS / "broken.json").read_text(encoding="utf-8"))
SIGNED_NOTE: dict[str, Any] = json.loads((VECTORS.parent / "eventlog" / "signed_note.json").read_text(encoding="utf-8"))
LOG_KEY = parse_verifier_key(CANONICAL["log_verifier_key"])
COSIGNER_KEY = parse_verifier_key(CANONICAL["cosigner_verifier_key"])
KINDS = {1: "GRANT", 2: "OPT_OUT", None: ""}


def verify(text: str) -> ReceiptStatement:
    return verify_receipt(text.encode(), LOG_KEY, COSIGNER_KEY)


@pytest.mark.parametrize("case", CANONICAL["receipts"], ids=lambda case: str(case["name"]))
def test_verification_of_a_vector_tells_what_the_vector_says(case: dict[str, Any]) -> None:
    told, expected = verify(case["receipt"]), case["statement"]
    occurrence = told.occurrence
    assert (told.seq, occurrence.type, told.reference.hex) == (
        expected["seq"],
        expected["type"],
        expected["request_id"],
    )
    assert (occurrence.source, occurrence.time_ms) == (expected["source"], expected["time_ms"])
    assert (occurrence.kind, occurrence.purpose) == (KINDS[expected["kind"]], expected["purpose"] or "")
    assert occurrence.rejection == (expected["rejection"] or "")
    assert (told.origin, occurrence.origin) == (CANONICAL["origin"], CANONICAL["origin"])
    assert told.checkpoint_size == case.get("checkpoint_size", CANONICAL["checkpoint_size"])
    assert told.checkpoint_time is not None
    assert told.checkpoint_time.timestamp() == CANONICAL["cosigned_unix_seconds"]


@pytest.mark.parametrize("case", BROKEN["receipts"], ids=lambda case: str(case["name"]))
def test_verification_of_a_broken_vector_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidReceipt) as refusal:
        verify(case["receipt"])
    assert refusal.value.reason == case["reason"]


def test_verification_without_cosigner_tells_no_time() -> None:
    assert verify_receipt(CANONICAL["receipts"][0]["receipt"].encode(), LOG_KEY).checkpoint_time is None


def test_verification_for_another_log_name_is_refused() -> None:
    with pytest.raises(InvalidReceipt) as refusal:
        verify_receipt(CANONICAL["receipts"][0]["receipt"].encode(), LOG_KEY, origin="log.example.com/tenant-b")
    assert refusal.value.reason == "ORIGIN_MISMATCH"


def test_verification_keys_in_each_others_role_are_refused() -> None:
    receipt_bytes = CANONICAL["receipts"][0]["receipt"].encode()
    with pytest.raises(ConfigurationError, match="KEY_KIND"):
        verify_receipt(receipt_bytes, COSIGNER_KEY)
    with pytest.raises(ConfigurationError, match="KEY_KIND"):
        verify_receipt(receipt_bytes, LOG_KEY, LOG_KEY)


def test_verification_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"consentry-client\[verify\]"):
        verify(CANONICAL["receipts"][0]["receipt"])


def test_verifier_key_of_the_specification_is_read() -> None:
    assert parse_verifier_key(SIGNED_NOTE["specification"]["verifier_key"]).key_id.hex() == "530d903a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "KEY_FORM"),
        ("name only", "KEY_FORM"),
        (CANONICAL["log_verifier_key"][:-4], "KEY_FORM"),
        ("PRIVATE+KEY+" + CANONICAL["log_verifier_key"], "KEY_FORM"),
        (CANONICAL["log_verifier_key"].replace("tenant-a", "tenant-b"), "KEY_DAMAGED"),
        ("a+00000000+Av" + "A" * 42, "KEY_KIND"),
    ],
)
def test_verifier_key_of_another_form_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_verifier_key(text)
    assert refusal.value.reason == reason
