"""The command `consentry`: ask a sidecar, hand in a person's request, look at a sidecar's status.

What is typed may be personal data, so no error shows it again: neither ours, nor the command line parser's own.
"""

import sys
from collections.abc import Sequence

import typer

from consentry_client.cli.check_command import check
from consentry_client.cli.intake_commands import grant, link, opt_out
from consentry_client.cli.problem import describe_problem
from consentry_client.cli.receipt_commands import receipt, verify_receipt
from consentry_client.cli.status_command import status

EXIT_ERROR = 2

app = typer.Typer(
    name="consentry",
    help="Ask whether a person's data may be used, and hand in what people say about it.",
    epilog="Addresses come from --address or from CONSENTRY_ADDRESS (checks) and CONSENTRY_INTAKE_ADDRESS (requests).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(check)
app.command("opt-out")(opt_out)
app.command()(grant)
app.command()(link)
app.command()(receipt)
app.command()(status)
app.command("verify-receipt")(verify_receipt)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits: 0 done or allowed, 1 denied or not valid, 2 no decision, not accepted or not understood."""
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="consentry", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the process boundary: the text of an error may hold what was typed
        print(describe_problem(error), file=sys.stderr)  # noqa: T201 - the terminal is what this is for
        code = EXIT_ERROR
    sys.exit(code if isinstance(code, int) else 0)
