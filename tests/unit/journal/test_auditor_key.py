import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.keys import KeyKind, generate_signing_key
from journal.auditor_key import AuditorPublicKey, format_auditor_key, parse_auditor_key
from journal.errors import MalformedAuditorKey

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="+"), min_size=1, max_size=40)
KEY = AuditorPublicKey(
    bytes(range(32)), generate_signing_key("internal-audit", KeyKind.AUDITOR, bytes(32)).verifier_key
)


@given(NAMES, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_auditor_key_is_read_back_as_written(name: str, sealing_key: bytes, seed: bytes) -> None:
    key = AuditorPublicKey(sealing_key, generate_signing_key(name, KeyKind.AUDITOR, seed).verifier_key)
    assert parse_auditor_key(f"{format_auditor_key(key)}\n") == key


@given(st.text(max_size=300))
def test_auditor_key_any_other_text_is_refused_by_our_error(text: str) -> None:
    with pytest.raises(MalformedAuditorKey):
        parse_auditor_key(text)


LINE = format_auditor_key(KEY)
SOURCE = generate_signing_key("internal-audit", KeyKind.SOURCE, bytes(32)).verifier_key


@pytest.mark.parametrize(
    "text",
    [
        "",
        LINE.replace(" v1 ", " v2 "),
        LINE.replace("consentry-auditor-key", "consentry-key"),
        LINE.replace(" internal-audit ", " external-audit "),
        LINE.replace("+", "-", 1),
        f"{LINE} more",
        LINE.replace(" v1", "  v1"),
        " ".join((*LINE.split()[:3], "AAAA", LINE.split()[4])),
        " ".join((*LINE.split()[:3], "é", LINE.split()[4])),
        f"{LINE}\n{LINE}",
    ],
)
def test_auditor_key_malformed_line_is_refused(text: str) -> None:
    with pytest.raises(MalformedAuditorKey):
        parse_auditor_key(text)


def test_auditor_key_of_another_kind_is_refused() -> None:
    with pytest.raises(MalformedAuditorKey, match="not an auditor's"):
        AuditorPublicKey(bytes(32), SOURCE)
