"""The documents as tests see them."""

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DOCS = REPOSITORY / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read_page(name: str) -> str:
    """The text of a page, named from the repository's root."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def page_names() -> list[str]:
    """README.md and every page under docs, from the repository's root."""
    return ["README.md", *sorted(str(path.relative_to(REPOSITORY)) for path in DOCS.rglob("*.md"))]


def code_blocks(text: str, language: str) -> Iterator[str]:
    """The contents of the fenced blocks of one language, in order."""
    return (body for found, body in _FENCE.findall(text) if found == language)


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of any level, without its two header lines."""
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None, f"no table below {heading}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]
