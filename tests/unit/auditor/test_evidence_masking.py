"""Identifiers in clear are recognised in text and in noise, and no text of the report carries one on."""

import os
from pathlib import Path

import pytest

from auditor.evidence.errors import InvalidEvidenceOption
from auditor.evidence.masking import IdentifierFinder, read_known_identifiers
from auditor.evidence.scan import scan_folder
from auditor.progress import no_progress


def kinds(content: bytes, finder: IdentifierFinder | None = None, *, is_noise: bool = False) -> list[str]:
    return [match.kind for match in (finder or IdentifierFinder()).find(content, is_noise=is_noise)]


@pytest.mark.parametrize(
    "text",
    ["max@example.org", "x max.muster+news@mail.example.co.uk, y", "<a@b.de>", "\N{DIGIT ONE}o'neil@example.ie"],
)
def test_finder_an_email_address_is_found(text: str) -> None:
    assert kinds(text.encode()) == ["e-mail address"]


@pytest.mark.parametrize("text", ["+4915112345678", "tel:+4915112345678;", "a +14155550100 b", "(+14155550100)"])
def test_finder_a_telephone_number_is_found(text: str) -> None:
    assert kinds(text.encode()) == ["telephone number"]


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org/sidecar/pod-1",
        "log.example.org/acme+12345678+AfX0",
        "no@tld",
        "@example.org",
        "2026-01-01 00:00:00+00:00",
        "user@host",
        "+123456",
        "a" * 100_000,
    ],
)
def test_finder_what_is_no_identifier_is_not_found(text: str) -> None:
    assert kinds(text.encode()) == []


def test_finder_in_noise_takes_no_chance_for_an_address_and_misses_no_real_one() -> None:
    noise = os.urandom(64)
    assert kinds(noise + b"\x00a@b.de\x00", is_noise=True) == []
    assert kinds(noise + b"\x00max.muster@example.org\x00" + noise, is_noise=True) == ["e-mail address"]


def test_mask_withholds_every_identifier_and_keeps_the_rest() -> None:
    finder = IdentifierFinder([(3, b"Jane Roe")])
    masked = finder.mask("über max@example.org, +4915112345678 und JANE ROE!")
    assert masked == (
        "über [withheld: e-mail address], [withheld: telephone number] und [withheld: known identifier on line 3]!"
    )


def test_mask_of_overlapping_identifiers_leaves_no_part() -> None:
    finder = IdentifierFinder([(1, b"muster@exa"), (2, b"example.org/x")])
    masked = finder.mask("max.muster@example.org/x")
    assert "muster" not in masked
    assert "example" not in masked


@pytest.mark.parametrize("content", [b"short\n", b"x" * 400, b"identifier\n" * 1001])
def test_known_identifiers_that_mean_nothing_or_are_too_many_are_refused_without_the_value(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "known"
    path.write_bytes(content)
    with pytest.raises(InvalidEvidenceOption) as refused:
        read_known_identifiers(path)
    assert content[:5].decode() not in str(refused.value).removeprefix("--known-identifiers")


def test_known_identifiers_keep_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_bytes(b"\nmax@example.org\n\n  Jane Roe \n")
    assert read_known_identifiers(path) == [(2, b"max@example.org"), (4, b"Jane Roe")]


@pytest.mark.parametrize("before", [0, (1 << 20) - 8, (1 << 20) - 640, (1 << 20) + 5, 3 * (1 << 20) - 4])
def test_scan_finds_what_lies_across_the_parts_that_it_reads_exactly_once(tmp_path: Path, before: int) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"." * before + b" max.muster@example.org " + b"." * 5000)
    assert list(scan_folder(path.parent, IdentifierFinder(), no_progress)) == [("file", "e-mail address", 1)]


def test_scan_finds_identifiers_in_names(tmp_path: Path) -> None:
    (tmp_path / "max@example.org").mkdir()
    (tmp_path / "max@example.org" / "empty").touch()
    (found,) = scan_folder(tmp_path, IdentifierFinder(), no_progress)
    assert found[1:] == ("e-mail address in the name", 1)
