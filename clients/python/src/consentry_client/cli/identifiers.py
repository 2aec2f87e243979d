"""Identifiers from the command line, or from standard input so that they stay out of the shell's history."""

import sys
from collections.abc import Iterable
from typing import Annotated, TextIO

import typer

from consentry_client.cli.problem import Problem
from consentry_client.subject import Identifier

FROM_INPUT = "-"
_HELP = "`-` reads it from standard input, one line each"

EmailOption = Annotated[list[str] | None, typer.Option("--email", metavar="ADDRESS", help=f"E-mail address; {_HELP}.")]
PhoneOption = Annotated[
    list[str] | None, typer.Option("--phone", metavar="NUMBER", help=f"Telephone number, + and digits; {_HELP}.")
]
UserOption = Annotated[list[str] | None, typer.Option("--user", metavar="ID", help=f"Account; {_HELP}.")]
DeviceOption = Annotated[list[str] | None, typer.Option("--device", metavar="ID", help=f"Device; {_HELP}.")]
IdOption = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="NAMESPACE=VALUE", help=f"Identifier of any namespace; for VALUE, {_HELP}."),
]


def gather_identifiers(
    email: Iterable[str] | None,
    phone: Iterable[str] | None,
    user: Iterable[str] | None,
    device: Iterable[str] | None,
    other: Iterable[str] | None,
) -> list[Identifier]:
    """Makes identifiers of all the options that name one.

    Raises:
        Problem: One is not NAMESPACE=VALUE, or standard input has no line for it.
    """
    named = [("email", email), ("phone", phone), ("user", user), ("device", device)]
    pairs = [(namespace, value) for namespace, values in named for value in values or ()]
    return [_make(namespace, value) for namespace, value in pairs] + [parse_identifier(text) for text in other or ()]


def require_one(identifiers: list[Identifier]) -> Identifier:
    """Returns the only identifier.

    Raises:
        Problem: There are none or several.
    """
    if len(identifiers) != 1:
        raise Problem("ONE_IDENTIFIER", "a request names exactly one identifier; join further ones with `link`")
    return identifiers[0]


def parse_identifier(text: str) -> Identifier:
    """Reads NAMESPACE=VALUE.

    Raises:
        Problem: It has another form.
    """
    namespace, separator, value = text.partition("=")
    if not separator:
        raise Problem("IDENTIFIER_FORM", "an identifier has the form NAMESPACE=VALUE")
    return _make(namespace, value)


def _make(namespace: str, value: str) -> Identifier:
    content = _read_line(sys.stdin) if value == FROM_INPUT else value
    if not content:
        raise Problem("IDENTIFIER_EMPTY", "an identifier has no value")
    try:
        return Identifier(namespace, content)
    except ValueError as error:
        raise Problem("IDENTIFIER_FORM", str(error)) from None


def _read_line(stream: TextIO) -> str:
    try:
        line = stream.readline()
    except UnicodeDecodeError:
        raise Problem("INPUT_NOT_TEXT", "standard input is not valid text") from None
    return line.rstrip("\r\n")
