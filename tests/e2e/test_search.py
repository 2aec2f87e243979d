"""The search itself: what it would find if it were there."""

import base64
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.search import IdentifierSearch, spell

PERSON = "Zoë.Müller+news@Bücher.example"
PLAIN = "ada@example.com"


@pytest.mark.parametrize(
    "planted",
    [
        PERSON.encode(),
        PERSON.encode("utf-16-le"),
        PERSON.encode("utf-16-be"),
        PERSON.encode("latin-1"),
        PERSON.upper().encode(),
        b"zo\xc3\xab.m\xc3\xbcller+news@xn--bcher-kva.example",
        b'{"value":"Zo\\u00eb.M\\u00fcller+news@B\\u00fccher.example"}',
        quote(PERSON).encode(),
        quote(PERSON, safe="").lower().encode(),
        PERSON.encode().hex().encode(),
        PERSON.encode().hex().upper().encode(),
        base64.b64encode(PERSON.encode()),
        base64.b64encode(b"1" + PERSON.encode() + b"more"),
        base64.urlsafe_b64encode(b"12" + PERSON.encode() + b"?"),
        base64.b64encode(b"{'id': '" + PERSON.encode() + b"'}"),
    ],
)
def test_search_identifier_in_any_form_is_found(planted: bytes) -> None:
    hits = list(IdentifierSearch([PLAIN, PERSON]).find(b"\0before " + planted + b" after", "here"))
    assert {hit.number for hit in hits} == {1}
    assert {hit.place for hit in hits} == {"here"}


def test_search_hit_shows_nothing_of_the_identifier() -> None:
    (hit,) = IdentifierSearch([PLAIN]).find(PLAIN.encode(), "here")
    assert not list(IdentifierSearch([PLAIN]).find(repr(hit).encode(), "hit"))


def test_search_folder_looks_into_names_files_and_databases(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{PLAIN}.txt").write_bytes(b"")
    database = sqlite3.connect(tmp_path / "some.db")
    database.execute("CREATE TABLE t (value BLOB)")
    database.execute("INSERT INTO t VALUES (?)", (b"\1\2" + PLAIN.encode(),))
    database.commit()
    database.close()
    finding = IdentifierSearch([PLAIN, PERSON]).search_folder(tmp_path)
    assert [hit.place for hit in finding.hits] == [f"name of 'deep/{PLAIN}.txt'", "some.db"]
    assert finding.files == 2


def test_search_clean_bytes_have_no_hit() -> None:
    assert not list(IdentifierSearch([PLAIN, PERSON]).find(bytes(range(256)) * 64 + b"ada@example.org", "here"))


def test_search_identifier_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        IdentifierSearch(["17"])


def test_spell_every_form_of_a_plain_identifier_is_long_enough_to_matter() -> None:
    assert min(map(len, spell(PLAIN))) >= len(PLAIN)
