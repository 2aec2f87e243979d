"""Heads and disposals of journals: signed for one log by one sidecar, and read back strictly."""

from dataclasses import fields, replace
from typing import Any

import pytest

from consent.eventlog.errors import InvalidJournalHead, WrongKeyKind
from consent.eventlog.journal_head import (
    NO_HEAD,
    DisposalGround,
    HeadKind,
    JournalDisposal,
    JournalHead,
    format_disposal,
    format_head,
    hash_head,
    parse_disposal,
    parse_head,
    sign_disposal,
    sign_head,
    verify_disposal,
    verify_head,
)
from consent.eventlog.keys import KeyKind, generate_signing_key

ORIGIN = "consent.example/log"
KEY = generate_signing_key("pod-1", KeyKind.SIDECAR, bytes(range(32)))
PUBLIC_KEY = KEY.verifier_key.public_key
HEAD = JournalHead(
    sidecar_id="pod-1",
    chain_id=bytes(range(16)),
    number=0,
    kind=HeadKind.PERIODIC,
    at_ms=1_767_225_600_000,
    segment=0,
    frame=7,
    chain_hash=bytes(range(32)),
    decisions=12,
    answered=12,
)
DISPOSAL = JournalDisposal(
    sidecar_id="pod-1",
    chain_id=bytes(range(16)),
    first_segment=0,
    last_segment=3,
    chain_hash=bytes(range(32)),
    decisions=12,
    oldest_ms=1,
    newest_ms=2,
    ground=DisposalGround.AGE,
    disposed_at_ms=3,
)


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bytes):
        return bytes((value[0] ^ 1,)) + value[1:]
    return value + 1 if isinstance(value, int) else f"{value}x"


@pytest.mark.parametrize("field", [field.name for field in fields(JournalHead)])
def test_verify_head_with_any_field_changed_refuses(field: str) -> None:
    signed = sign_head(HEAD, KEY, ORIGIN)
    verify_head(signed, ORIGIN, PUBLIC_KEY)
    with pytest.raises(InvalidJournalHead):
        verify_head(replace(signed, **{field: other(getattr(signed, field))}), ORIGIN, PUBLIC_KEY)


@pytest.mark.parametrize("field", [field.name for field in fields(JournalDisposal)])
def test_verify_disposal_with_any_field_changed_refuses(field: str) -> None:
    signed = sign_disposal(DISPOSAL, KEY, ORIGIN)
    verify_disposal(signed, ORIGIN, PUBLIC_KEY)
    with pytest.raises(InvalidJournalHead):
        verify_disposal(replace(signed, **{field: other(getattr(signed, field))}), ORIGIN, PUBLIC_KEY)


def test_verify_head_for_another_log_or_key_refuses() -> None:
    signed = sign_head(HEAD, KEY, ORIGIN)
    for origin, key in ((f"{ORIGIN}2", PUBLIC_KEY), (ORIGIN, bytes(32)), (ORIGIN, b"short")):
        with pytest.raises(InvalidJournalHead):
            verify_head(signed, origin, key)


def test_sign_head_with_another_kind_of_key_refuses() -> None:
    with pytest.raises(WrongKeyKind):
        sign_head(HEAD, generate_signing_key("pod-1", KeyKind.LOG, bytes(32)), ORIGIN)


def test_parse_reads_back_and_refuses_everything_else() -> None:
    head, disposal = sign_head(HEAD, KEY, ORIGIN), sign_disposal(DISPOSAL, KEY, ORIGIN)
    assert (parse_head(format_head(head)), parse_disposal(format_disposal(disposal))) == (head, disposal)
    for cut in (b"", format_head(head)[:-1], format_head(head) + b"\x00"):
        with pytest.raises(InvalidJournalHead):
            parse_head(cut)


def test_hash_head_covers_the_signature() -> None:
    signed = sign_head(HEAD, KEY, ORIGIN)
    assert len({hash_head(HEAD), hash_head(signed), NO_HEAD}) == 3
