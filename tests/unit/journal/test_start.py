"""What a process says of itself at the beginning of a chain."""

import json
from dataclasses import replace

import pytest

from journal.errors import MalformedStart
from journal.format import JournalMode
from journal.start import CertificateNote, StartNote, format_start, parse_start

NOTE = StartNote(
    version="1.2.3",
    sidecar_id="pod-1",
    at_ms=1_767_225_600_000,
    mode=JournalMode.GROUP,
    on_unavailable="deny",
    settings={"journal": {"mode": "async", "directory": "/var/lib/ü"}, "listeners": [{"tls": None}]},
    trust_sha256="ab" * 32,
    certificates=(CertificateNote("feed", "cd" * 32, 1_800_000_000_000),),
)


def test_parse_start_reads_what_format_start_writes() -> None:
    assert parse_start(format_start(NOTE)) == NOTE
    small = replace(NOTE, settings={}, trust_sha256="", certificates=())
    assert parse_start(format_start(small)) == small


def test_format_start_is_canonical() -> None:
    text = format_start(NOTE).decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def change(**fields: object) -> bytes:
    content = json.loads(format_start(NOTE)) | fields
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        format_start(NOTE) + b" ",
        change(format=2),
        change(mode="weak"),
        change(mode=None),
        change(at_ms="1"),
        change(at_ms=True),
        change(version=1),
        change(settings=[]),
        change(trust_sha256="ab"),
        change(certificates=[{}]),
        change(certificates=[{"use": 1, "sha256": "", "not_after_ms": 1}]),
        change(more=1),
    ],
)
def test_parse_start_of_anything_else_fails(content: bytes) -> None:
    with pytest.raises(MalformedStart):
        parse_start(content)
