"""Turns the purposes of the W3C Data Privacy Vocabulary into a policy file.

The input is the vocabulary's own table, `dpv/modules/purposes.csv` of the repository w3c/dpv (made with version 2.3).
Every purpose rests on consent until somebody decides otherwise, so what is not thought about stays denied.
"""

import csv
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from consent.policy import (
    DuplicatePurpose,
    MalformedDocument,
    Policy,
    PolicyError,
    Purpose,
    PurposeText,
    UnknownKey,
    format_policy_file,
)
from consent.policy.wording import quote, suggest

_ROOT_IRI = "https://w3id.org/dpv#Purpose"
_NEEDED_COLUMNS = ("term", "type", "iri", "label", "definition", "dpvtype", "hasbroader")
_COLUMNS = (*_NEEDED_COLUMNS, "subclassof", "scopenote", "created", "modified", "vocab", "namespace")
# GDPR Art. 9(1), in one word each.
_SPECIAL_CATEGORIES = frozenset(
    {
        "biometric",
        "ethnic_origin",
        "genetic",
        "health",
        "political_opinions",
        "religion",
        "sexual_life",
        "trade_union",
    }
)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: Mapping[str, str]

    @property
    def is_purpose(self) -> bool:
        return self.cells["dpvtype"] == _ROOT_IRI


def convert_dpv(table: TextIO, file_name: str) -> str:
    """Makes a policy file of the vocabulary's table of purposes.

    The root class and classes that are no purposes are left out. A parent that the table does not define is kept as a
    retired purpose: it cannot be asked for, and a denial of it covers its children.

    Args:
        table: The CSV text, opened with `newline=""`.
        file_name: What to call it in errors and in the file's first lines.

    Returns:
        YAML that `consent.policy.load_policy_file` reads, version 1, texts in English.

    Raises:
        PolicyError: A column is missing or unknown, a row is cut short, a term stands twice, parents form a cycle, or
            no purpose is in it; the text starts with `file:line:`.
    """
    classes = [row for row in _read_rows(table, file_name) if row.cells["type"] == "class"]
    rows = _index_by_term([row for row in classes if row.is_purpose], file_name)
    if not rows:
        raise MalformedDocument("the table defines no purpose", location=f"{file_name}:1")
    names = {row.cells["iri"]: term for term, row in rows.items()}
    purposes = {term: _make_purpose(term, row, names) for term, row in rows.items()}
    outside = {parent for purpose in purposes.values() for parent in purpose.parents if parent not in purposes}
    iris = {_local_name(iri): iri for row in rows.values() for iri in _parent_iris(row)}
    purposes |= {name: Purpose(name=name, dpv=iris[name], retired=True) for name in outside}
    try:
        policy = Policy(version=1, replaces_version=0, purposes=purposes, special_categories=_SPECIAL_CATEGORIES)
    except PolicyError as error:
        raise error.locate(f"{file_name}:{_find_line(error, rows)}") from None
    left_out = [row.cells["term"] for row in classes if not row.is_purpose]
    return format_policy_file(policy, _write_comment(file_name, len(rows), left_out, outside))


def _read_rows(table: TextIO, file_name: str) -> Iterator[_Row]:
    reader = csv.reader(table, strict=True)
    try:
        header = [cell.removeprefix("\ufeff").strip() for cell in next(reader, [])]
        _verify_header(header, f"{file_name}:1")
        for cells in reader:
            if len(cells) != len(header):
                raise MalformedDocument(
                    f"the row has {len(cells)} cells, the header {len(header)}",
                    location=f"{file_name}:{reader.line_num}",
                )
            cleaned = (" ".join(unicodedata.normalize("NFC", cell).split()) for cell in cells)
            yield _Row(reader.line_num, dict(zip(header, cleaned, strict=True)))
    except csv.Error as error:
        raise MalformedDocument(f"not readable as CSV: {error}", location=f"{file_name}:{reader.line_num}") from None
    except UnicodeDecodeError:
        raise MalformedDocument("not UTF-8", location=f"{file_name}:{reader.line_num + 1}") from None


def _verify_header(header: list[str], location: str) -> None:
    missing = [column for column in _NEEDED_COLUMNS if column not in header]
    if missing:
        raise MalformedDocument(
            f"the header lacks the column {missing[0]!r}; it must have {', '.join(_NEEDED_COLUMNS)}", location=location
        )
    unknown = [column for column in header if column not in _COLUMNS]
    if unknown:
        raise UnknownKey(
            f"unknown column {quote(unknown[0])}{suggest(unknown[0], _COLUMNS)}; this is not the table of DPV 2",
            location=location,
        )
    if len(set(header)) < len(header):
        raise MalformedDocument("the header names a column twice", location=location)


def _index_by_term(rows: list[_Row], file_name: str) -> dict[str, _Row]:
    by_term: dict[str, _Row] = {}
    for row in rows:
        term = row.cells["term"]
        if term in by_term:
            raise DuplicatePurpose(
                f"the term {quote(term)} already stands on line {by_term[term].line}",
                location=f"{file_name}:{row.line}",
            )
        by_term[term] = row
    return by_term


def _make_purpose(term: str, row: _Row, names: Mapping[str, str]) -> Purpose:
    parents = dict.fromkeys(names.get(iri) or _local_name(iri) for iri in _parent_iris(row))
    return Purpose(
        name=term,
        parents=tuple(parents),
        dpv=row.cells["iri"],
        texts={"en": PurposeText(row.cells["label"] or term, row.cells["definition"])},
    )


def _parent_iris(row: _Row) -> list[str]:
    iris = [iri.strip() for iri in row.cells["hasbroader"].split(";")]
    return [iri for iri in iris if iri not in ("", _ROOT_IRI)]


def _local_name(iri: str) -> str:
    return iri.replace("#", "/").rstrip("/").rpartition("/")[2]


def _find_line(error: PolicyError, rows: Mapping[str, _Row]) -> int:
    match error.path:
        case ("purposes", str(name), *_) if name in rows:
            return rows[name].line
    return 1


def _write_comment(file_name: str, count: int, left_out: list[str], outside: set[str]) -> str:
    lines = [
        f"{count} purposes of the W3C Data Privacy Vocabulary, made from {file_name}.",
        "Titles and descriptions: Data Privacy Vocabularies and Controls Community Group,",
        "W3C Software and Document License (2023).",
        "",
        "A start, not legal advice: every purpose rests on consent and no regime is set, so everything is denied until",
        "people opt in. Decide on legal_basis, gpc, direct_marketing, concrete and the regimes (docs/policy.md).",
    ]
    if left_out:
        lines.append(f"Left out, because they are classes and not purposes to ask for: {', '.join(sorted(left_out))}.")
    if outside:
        lines.append(f"Retired, because other parts of the vocabulary define them: {', '.join(sorted(outside))}.")
    return "\n".join(lines)
