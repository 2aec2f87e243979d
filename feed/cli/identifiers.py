"""Identifiers from the command line, or from standard input so that they stay out of the shell's history."""

import sys

from feed.cli.session import EXIT_USAGE, fail
from feed.intake.requests import Subject

FROM_INPUT = "-"


def parse_subject(text: str) -> Subject:
    """Read NAMESPACE=VALUE, or end the command; what was typed is never shown again."""
    namespace, separator, value = text.partition("=")
    if not separator or not namespace:
        fail("an identifier has the form NAMESPACE=VALUE", EXIT_USAGE)
    content = _read_line() if value == FROM_INPUT else value
    if not (namespace + content).isprintable():
        # Bytes that are not UTF-8 reach a program as characters that cannot be encoded, and are not printable.
        fail("an identifier is not valid text", EXIT_USAGE)
    if not content:
        fail("an identifier has no value", EXIT_USAGE)
    return Subject(namespace, content)


def _read_line() -> str:
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        fail("standard input is not valid text", EXIT_USAGE)
