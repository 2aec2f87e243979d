import base64
import json
from pathlib import Path

import pytest

from consent.eventlog.errors import MalformedNote
from consent.eventlog.signed_note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    format_note,
    parse_note,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "eventlog" / "signed_note.json"
SIGNATURE = NoteSignature("key.example.com", b"\x01\x02\x03\x04", b"signature")
LINE = "\N{EM DASH} key.example.com " + base64.b64encode(b"\x01\x02\x03\x04signature").decode() + "\n"


def test_parse_note_published_example_round_trips() -> None:
    published = json.loads(VECTORS.read_text(encoding="utf-8"))["specification"]["note"].encode()
    note = parse_note(published)
    assert note.text == "This is an example message.\n"
    assert [(signature.name, signature.key_id.hex()) for signature in note.signatures] == [
        ("example.com/foo", "530d903a")
    ]
    assert format_note(note) == published


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a\n\n" + LINE, "a\n"),
        ("a\n\nb\n\n" + LINE, "a\n\nb\n"),
        ("a\n\n\n" + LINE, "a\n\n"),
        ("\n\n" + LINE, "\n"),
        ("è \N{NO-BREAK SPACE}\N{LINE SEPARATOR}\x7f\n\n" + LINE, "è \N{NO-BREAK SPACE}\N{LINE SEPARATOR}\x7f\n"),
    ],
)
def test_parse_note_text_ends_at_the_last_empty_line(content: str, text: str) -> None:
    assert parse_note(content.encode()) == Note(text, (SIGNATURE,))


MALFORMED = {
    "empty": b"",
    "no signature block": b"text\n",
    "no empty line": b"text\n" + LINE.encode(),
    "empty signature block": b"text\n\n",
    "signature lines alone": LINE.encode() * 2,
    "two newlines at the end": b"text\n\n" + LINE.encode() + b"\n",
    "no newline at the end": b"text\n\n" + LINE.encode()[:-1],
    "starts with the empty line": b"\n" + LINE.encode(),
    "carriage return": b"text\r\n\n" + LINE.encode(),
    "tab": b"te\txt\n\n" + LINE.encode(),
    "zero byte": b"te\0xt\n\n" + LINE.encode(),
    "control character in a signature line": b"text\n\n" + LINE.replace(" key", " \x1fkey").encode(),
    "not UTF-8": b"te\xffxt\n\n" + LINE.encode(),
    "surrogate in UTF-8": b"te\xed\xa0\x80xt\n\n" + LINE.encode(),
    "overlong UTF-8": b"te\xc1\xa1xt\n\n" + LINE.encode(),
    "hyphen for dash": b"text\n\n" + LINE.replace("\N{EM DASH}", "-").encode(),
    "no space behind the dash": b"text\n\n" + LINE.replace("\N{EM DASH} ", "\N{EM DASH}").encode(),
    "two spaces behind the dash": b"text\n\n" + LINE.replace("\N{EM DASH} ", "\N{EM DASH}  ").encode(),
    "two spaces before the signature": b"text\n\n" + LINE.replace("com ", "com  ").encode(),
    "space at the end of the line": b"text\n\n" + LINE.replace("\n", " \n").encode(),
    "no name": b"text\n\n" + LINE.replace("key.example.com", "").encode(),
    "plus in the name": b"text\n\n" + LINE.replace("key.", "key+").encode(),
    "no-break space in the name": b"text\n\n" + LINE.replace("key.", "key\N{NO-BREAK SPACE}").encode(),
    "ideographic space in the name": b"text\n\n" + LINE.replace("key.", "key\N{IDEOGRAPHIC SPACE}").encode(),
    "no signature": "text\n\n\N{EM DASH} key.example.com\n".encode(),
    "empty signature": "text\n\n\N{EM DASH} key.example.com \n".encode(),
    "key id alone": "text\n\n\N{EM DASH} key.example.com AQIDBA==\n".encode(),
    "shorter than a key id": "text\n\n\N{EM DASH} key.example.com AQID\n".encode(),
    "not base64": "text\n\n\N{EM DASH} key.example.com AQID*AUG\n".encode(),
    "URL-safe base64": "text\n\n\N{EM DASH} key.example.com AQIDBA_-\n".encode(),
    "base64 without padding": "text\n\n\N{EM DASH} key.example.com AQIDBAU\n".encode(),
    "base64 with more padding": "text\n\n\N{EM DASH} key.example.com AQIDBAU==\n".encode(),
    "base64 with bits behind the end": "text\n\n\N{EM DASH} key.example.com AQIDBAV=\n".encode(),
    "base64 of other digits": "text\n\n\N{EM DASH} key.example.com AQIDBAU\N{FULLWIDTH EQUALS SIGN}\n".encode(),
    "second line malformed": b"text\n\n" + LINE.encode() + b"what is this\n",
    "too many signatures": b"text\n\n" + LINE.encode() * (MAX_SIGNATURES + 1),
    "too many bytes": b"a" * MAX_NOTE_BYTES + b"\n\n" + LINE.encode(),
}


@pytest.mark.parametrize("note_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_parse_note_malformed_bytes_are_refused(note_bytes: bytes) -> None:
    with pytest.raises(MalformedNote):
        parse_note(note_bytes)


@pytest.mark.parametrize("line", ["alice@example.com", "\N{EM DASH} alice+news@example.com AQIDBAU="])
def test_parse_note_bad_line_is_named_by_number_and_not_quoted(line: str) -> None:
    with pytest.raises(MalformedNote, match="signature line 2") as caught:
        parse_note(f"text\n\n{LINE}{line}\n".encode())
    assert "alice" not in str(caught.value)


def test_parse_note_sixteen_signatures_of_five_kilobytes_are_accepted() -> None:
    signatures = tuple(NoteSignature(f"key.example.com/{number}", bytes(4), bytes(5000)) for number in range(16))
    assert parse_note(format_note(Note("text\n", signatures))).signatures == signatures


def test_parse_note_at_the_limits_is_accepted() -> None:
    note = Note("text\n", (SIGNATURE,) * MAX_SIGNATURES)
    assert parse_note(format_note(note)) == note
    longest = b"a" * (MAX_NOTE_BYTES - 2 - len(LINE.encode())) + b"\n\n" + LINE.encode()
    assert len(longest) == MAX_NOTE_BYTES
    assert format_note(parse_note(longest)) == longest


def test_format_note_over_the_limit_is_refused() -> None:
    with pytest.raises(MalformedNote, match="over"):
        format_note(Note("a" * MAX_NOTE_BYTES + "\n", (SIGNATURE,)))


@pytest.mark.parametrize("text", ["", "text", "a\r\n", "a\x1f\n", "\ud800\n", "\0\n"])
def test_note_text_that_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(MalformedNote, match="text"):
        Note(text, (SIGNATURE,))


@pytest.mark.parametrize("count", [0, MAX_SIGNATURES + 1])
def test_note_number_of_signatures_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(MalformedNote, match="signatures"):
        Note("text\n", (SIGNATURE,) * count)


@pytest.mark.parametrize(
    ("name", "key_id", "signature", "named"),
    [
        ("", bytes(4), b"s", "name"),
        ("a b", bytes(4), b"s", "name"),
        ("a\nb", bytes(4), b"s", "name"),
        ("a+b", bytes(4), b"s", "name"),
        ("\udfff", bytes(4), b"s", "name"),
        ("a", bytes(3), b"s", "key_id"),
        ("a", bytes(5), b"s", "key_id"),
        ("a", bytes(4), b"", "signature"),
    ],
)
def test_note_signature_that_cannot_be_written_is_refused(
    name: str, key_id: bytes, signature: bytes, named: str
) -> None:
    with pytest.raises(MalformedNote, match=named):
        NoteSignature(name, key_id, signature)
