import json
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.errors import EventLogError, WrongKeyKind
from consent.eventlog.keys import parse_verifier_key
from consent.receipt import (
    MAX_RECEIPT_BYTES,
    MalformedReceipt,
    VerifiedReceipt,
    format_receipt,
    parse_receipt,
    verify_receipt,
)
from tests.fakes.receipt_log import COSIGNED_UNIX_SECONDS, COSIGNER_KEY, LOG_KEY, ORIGIN, ReceiptLog, make_events

VECTORS = Path(__file__).parents[2] / "vectors" / "receipt"
CANONICAL: dict[str, Any] = json.loads((VECTORS / "canonical.json").read_text(encoding="utf-8"))
BROKEN: dict[str, Any] = json.loads((VECTORS / "broken.json").read_text(encoding="utf-8"))


def verify(text: str, vectors: dict[str, Any]) -> VerifiedReceipt:
    log_key, cosigner_key = (parse_verifier_key(vectors[f"{role}_verifier_key"]) for role in ("log", "cosigner"))
    return verify_receipt(text.encode(), [log_key], [cosigner_key], origin=vectors["origin"])


@pytest.mark.parametrize("case", CANONICAL["receipts"], ids=lambda case: str(case["name"]))
def test_receipt_vector_proves_what_the_vector_says(case: dict[str, Any]) -> None:
    verified = verify(case["receipt"], CANONICAL)
    statement = case["statement"]
    assert (verified.seq, verified.event.TYPE.name) == (statement["seq"], statement["type"])
    assert (verified.event.request_id.hex(), verified.event.source) == (statement["request_id"], statement["source"])
    for name in ("purpose", "kind", "rejection"):
        assert getattr(verified.event, name, None) == statement[name]
    assert verified.cosigned_unix_seconds == CANONICAL["cosigned_unix_seconds"]
    assert verified.checkpoint.size == case.get("checkpoint_size", CANONICAL["checkpoint_size"])


@pytest.mark.parametrize("case", CANONICAL["receipts"], ids=lambda case: str(case["name"]))
def test_receipt_vector_is_written_back_byte_for_byte(case: dict[str, Any]) -> None:
    assert format_receipt(parse_receipt(case["receipt"].encode())) == case["receipt"].encode()


def test_receipt_vectors_are_what_the_log_hands_out() -> None:
    log = ReceiptLog()
    made = [log.receipt_bytes(seq).decode() for seq in range(2, len(make_events()) + 1)]
    assert made == [case["receipt"] for case in CANONICAL["receipts"][: len(made)]]


@pytest.mark.parametrize("case", BROKEN["receipts"], ids=lambda case: str(case["name"]))
def test_receipt_broken_vector_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(EventLogError) as refusal:
        verify(case["receipt"], BROKEN)
    assert refusal.value.reason == case["reason"]


def test_receipt_without_cosigners_asked_for_tells_no_time() -> None:
    receipt_bytes = ReceiptLog().receipt_bytes(2)
    assert verify_receipt(receipt_bytes, [LOG_KEY.verifier_key], origin=ORIGIN).cosigned_unix_seconds is None
    asked = verify_receipt(receipt_bytes, [LOG_KEY.verifier_key], [COSIGNER_KEY.verifier_key], origin=ORIGIN)
    assert asked.cosigned_unix_seconds == COSIGNED_UNIX_SECONDS


def test_receipt_keys_in_each_others_role_are_refused() -> None:
    receipt_bytes = ReceiptLog().receipt_bytes(2)
    with pytest.raises(WrongKeyKind):
        verify_receipt(receipt_bytes, [COSIGNER_KEY.verifier_key], origin=ORIGIN)
    with pytest.raises(WrongKeyKind):
        verify_receipt(receipt_bytes, [LOG_KEY.verifier_key], [LOG_KEY.verifier_key], origin=ORIGIN)


def test_receipt_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(MalformedReceipt, match="over"):
        parse_receipt(ReceiptLog().receipt_bytes(2).ljust(MAX_RECEIPT_BYTES + 1, b"\n"))


@pytest.mark.parametrize("changes", [{"opening": b"short"}, {"index": -1}, {"proof": (b"short",)}, {"type_byte": 0x80}])
def test_receipt_that_no_reader_would_take_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedReceipt):
        ReceiptLog().receipt(2, **changes)
