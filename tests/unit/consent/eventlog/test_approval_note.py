"""Approval files: what people read is what was signed, and nothing else reads as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.approval_note import format_approval, parse_approval
from consent.eventlog.attestation import approve, verify_approval
from consent.eventlog.errors import InvalidSignature, MalformedAttestation
from consent.eventlog.keys import sign_note
from tests.unit.consent.eventlog.signers import APPROVER_KEY, LOG_KEY, ORIGIN

CONTENT = ("policy", "version 3", "replaces 2", "document abc=")
NOW = 1_800_000_000
APPROVAL = format_approval(ORIGIN, CONTENT, approve(ORIGIN, CONTENT, APPROVER_KEY, NOW))
LINES = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)


@given(LINES, st.lists(LINES, min_size=1, max_size=5).map(tuple), st.integers(0, 2**40))
def test_parse_approval_reads_what_format_approval_wrote(origin: str, content: tuple[str, ...], time: int) -> None:
    attestation = approve(origin, content, APPROVER_KEY, time)
    assert parse_approval(format_approval(origin, content, attestation)) == (origin, content, attestation)


def test_approval_is_text_that_says_what_is_approved() -> None:
    text = APPROVAL.decode()
    assert text.startswith(f"consentry/approval/v1\n{ORIGIN}\ntime {NOW}\npolicy\nversion 3\nreplaces 2\n")


def test_approval_that_was_edited_does_not_verify() -> None:
    edited = parse_approval(APPROVAL.replace(b"version 3", b"version 4"))
    with pytest.raises(InvalidSignature):
        verify_approval(edited.attestation, edited.origin, edited.content, APPROVER_KEY.verifier_key)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\n\nx",
        APPROVAL.rpartition(b"\n\n")[0] + b"\n",
        APPROVAL + APPROVAL.rpartition(b"\n\n")[2],
        APPROVAL.replace(b"consentry/approval/v1", b"consentry/attestation/v1"),
        APPROVAL.replace(b"time 18", b"time 018"),
        APPROVAL.replace(b"time ", b"at "),
        sign_note(f"consentry/approval/v1\n{ORIGIN}\ntime {NOW}\n", LOG_KEY),
        sign_note("consentry/approval/v1\n", LOG_KEY),
        APPROVAL[:-1],
    ],
)
def test_parse_approval_of_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedAttestation):
        parse_approval(text)
