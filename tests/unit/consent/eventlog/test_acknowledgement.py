"""What a sidecar signs: bound to every field, to the log, and to what it is for."""

from dataclasses import replace

import pytest

from consent.eventlog.acknowledgement import (
    NO_STATE_ROOT,
    Receipt,
    sign_ack,
    sign_possession,
    verify_ack,
    verify_possession,
)
from consent.eventlog.errors import InvalidAcknowledgement, InvalidPossession, WrongKeyKind
from consent.eventlog.keys import KeyKind, generate_signing_key

ORIGIN = "log.example.com/acme"
KEY = generate_signing_key("pod-1", KeyKind.SIDECAR, bytes(range(32)))
OTHER = generate_signing_key("pod-1", KeyKind.SIDECAR, bytes(32))
PUBLIC = KEY.verifier_key.public_key
RECEIPT = sign_ack(KEY, ORIGIN, 7, bytes([1]) * 32, 1_767_225_600_000)


def test_sign_ack_signs_the_documented_text() -> None:
    text = (
        "consentry/ack/v1\nlog.example.com/acme\npod-1\n7\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n1767225600000\n"
    )
    KEY.verifier_key.verify(text.encode(), RECEIPT.signature)
    assert (RECEIPT.sidecar_id, RECEIPT.state_root) == ("pod-1", NO_STATE_ROOT)
    verify_ack(RECEIPT, ORIGIN, PUBLIC)


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECEIPT, sidecar_id="pod-2"),
        replace(RECEIPT, sidecar_id="pod-1\n7"),
        replace(RECEIPT, size=8),
        replace(RECEIPT, root_hash=bytes(32)),
        replace(RECEIPT, state_root=bytes([1]) * 32),
        replace(RECEIPT, applied_at_ms=RECEIPT.applied_at_ms - 1),
        replace(RECEIPT, signature=bytes(64)),
        replace(RECEIPT, signature=b""),
    ],
)
def test_verify_ack_any_field_changed_is_refused(changed: Receipt) -> None:
    with pytest.raises(InvalidAcknowledgement):
        verify_ack(changed, ORIGIN, PUBLIC)


def test_verify_ack_of_another_log_or_key_is_refused() -> None:
    for origin, public_key in (("other", PUBLIC), (ORIGIN, OTHER.verifier_key.public_key), (ORIGIN, b"short")):
        with pytest.raises(InvalidAcknowledgement):
            verify_ack(RECEIPT, origin, public_key)


def test_verify_possession_is_bound_to_name_key_and_log() -> None:
    possession = sign_possession(KEY, ORIGIN)
    KEY.verifier_key.verify(b"consentry/enrolment/v1\nlog.example.com/acme\npod-1\n", possession)
    verify_possession("pod-1", PUBLIC, possession, ORIGIN)
    wrong = [
        ("pod-2", PUBLIC, possession, ORIGIN),
        ("pod-1", OTHER.verifier_key.public_key, possession, ORIGIN),
        ("pod-1", PUBLIC, possession, "other"),
        ("pod-1", PUBLIC, b"", ORIGIN),
        ("", PUBLIC, possession, ORIGIN),
        ("pod-1", PUBLIC[:31], possession, ORIGIN),
    ]
    for arguments in wrong:
        with pytest.raises(InvalidPossession):
            verify_possession(*arguments)


def test_sign_key_of_another_role_is_refused() -> None:
    key = generate_signing_key("pod-1", KeyKind.SOURCE, bytes(32))
    with pytest.raises(WrongKeyKind):
        sign_ack(key, ORIGIN, 1, bytes(32), 0)
    with pytest.raises(WrongKeyKind):
        sign_possession(key, ORIGIN)
