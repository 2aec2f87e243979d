"""Errors of the command line in words that hold nothing of what was typed."""

from typing import Any

import typer

from consentry_client.errors import ConsentryError, IntakeError

_SEE_HELP = "see `consentry --help` and `consentry COMMAND --help`"


class Problem(ConsentryError):
    """Something is wrong with what was asked for; the text says what and holds no value."""


def describe_problem(error: Exception) -> str:
    """Returns one line for a person.

    Only texts of our own are shown. Those of the parser repeat what was typed, and anything else may hold it.
    """
    if isinstance(error, Problem):
        return f"consentry: {error}"
    if isinstance(error, IntakeError):
        key = f"; idempotency key: {error.idempotency_key}" if error.outcome_unknown else ""
        return f"consentry: {error}{f' ({error.error})' if error.error else ''}{key}"
    if isinstance(error, ConsentryError):
        return f"consentry: {error}"
    if isinstance(error, typer.Abort):
        return "consentry: stopped"
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"consentry: say what to do; {_SEE_HELP}"
    # The parser's error classes have no public home, so they are told by what they carry.
    parameter: Any = getattr(error, "param", None)
    options = getattr(parameter, "opts", None)
    if options:
        fault = "is missing" if type(error).__name__ == "MissingParameter" else "has a value that it cannot have"
        return f"consentry: {max(options, key=len)} {fault}; {_SEE_HELP}"
    if hasattr(error, "format_message"):
        return (
            "consentry: an unknown command or option, or an argument too many (an identifier goes behind --email, "
            f"--phone, --user, --device or --id); {_SEE_HELP}"
        )
    return f"consentry: an error that should not be: {type(error).__name__}"
