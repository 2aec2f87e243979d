"""`consentry receipt` and `consentry verify-receipt`."""

from pathlib import Path
from typing import Annotated

import typer

from consentry_client.cli.connection import (
    AddressOption,
    JsonOption,
    TimeoutOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    explain_outage,
    gather_tls,
)
from consentry_client.cli.problem import Problem
from consentry_client.cli.receipt_files import require_new_file, write_receipt
from consentry_client.cli.rendering import print_hint, print_invalid_receipt, print_receipt, print_statement
from consentry_client.decision import Reason
from consentry_client.errors import ConfigurationError, IntakeError
from consentry_client.intake import IntakeClient
from consentry_client.settings import INTAKE_ADDRESS_VARIABLE
from consentry_client.verification import InvalidReceipt, VerifierKey, parse_verifier_key
from consentry_client.verification import verify_receipt as verify
from consentry_client.verification.receipts import RECEIPT_BYTES_MAX

EXIT_VALID = 0
EXIT_INVALID = 1
_KEY_CHARACTERS_MAX = 4096


def receipt(  # noqa: PLR0913 - a command has an argument for each of its options
    seq: Annotated[
        int | None,
        typer.Argument(metavar="SEQ", min=1, help="Of the request's token, behind the colon.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="New file for the receipt.")],
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="Instead of SEQ; also finds a refused request."),
    ] = None,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Fetch the proof that a request is in the log.

    The address must be that of the source that sent the request. The file holds the person's token: keep it like the
    request itself. Exit code: 0 written, 2 no receipt or an error.

    \b
    Examples:
      consentry receipt 42 --out request.tlog-proof
      consentry receipt --idempotency-key order-17 --out request.tlog-proof --json
    """  # noqa: D301 - the \b keeps the lines apart
    require_new_file("--out", out)
    tls = gather_tls(tls_ca, tls_cert, tls_key)
    with IntakeClient(address, tls=tls) as client:
        try:
            fetched = client.receipt(seq, idempotency_key=idempotency_key, timeout_seconds=timeout)
        except IntakeError as error:
            if error.reason == Reason.CLIENT_UNAVAILABLE:
                print_hint(explain_outage(address, tls, INTAKE_ADDRESS_VARIABLE))
            raise
        except ValueError as error:
            raise Problem("REQUEST_INVALID", str(error)) from None
    write_receipt("--out", out, fetched.receipt_bytes)
    print_receipt(fetched, as_json)


def verify_receipt(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.", show_default=False)],
    *,
    log_key: Annotated[
        str,
        typer.Option(
            "--log-key", metavar="FILE|KEY", help="The log's public key (trust/log.pub), not from the sender."
        ),
    ],
    cosigner_key: Annotated[
        str | None,
        typer.Option("--cosigner-key", metavar="FILE|KEY", help="Demand this cosignature too, and show its time."),
    ] = None,
    origin: Annotated[
        str | None, typer.Option("--origin", metavar="NAME", help="Name of the log; default: the key's name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt with the log's public key alone; nobody is asked.

    It proves that the request is that entry of the log, not that nothing else was said later. Neither the person nor
    its token is shown. Exit code: 0 valid, 1 not valid, 2 it could not be checked.

    \b
    Examples:
      consentry verify-receipt request.tlog-proof --log-key log.pub
      consentry verify-receipt request.tlog-proof --log-key log.pub --cosigner-key cosigner.pub --json
    """  # noqa: D301 - the \b keeps the lines apart
    keys = _read_key("--log-key", log_key), _read_key("--cosigner-key", cosigner_key) if cosigner_key else None
    receipt_bytes = _read_file("FILE", file, RECEIPT_BYTES_MAX + 1)
    try:
        statement = verify(receipt_bytes, *keys, origin=origin)
    except InvalidReceipt as error:
        print_invalid_receipt(error, as_json)
        raise typer.Exit(EXIT_INVALID) from None
    print_statement(statement, as_json)
    raise typer.Exit(EXIT_VALID)


def _read_key(option: str, value: str) -> VerifierKey:
    """Reads a key that is given as such, or as a file that holds one."""
    try:
        return parse_verifier_key(value)
    except ConfigurationError:
        text = _read_file(option, Path(value), _KEY_CHARACTERS_MAX).decode("utf-8", "replace")
    try:
        return parse_verifier_key(text.strip())
    except ConfigurationError as error:
        raise Problem(error.reason, f"{option}: what the file holds is no key that can be used") from None


def _read_file(option: str, path: Path, size_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size_max)
    except OSError as error:
        raise Problem("FILE_NOT_READ", f"{option}: cannot be read ({error.strerror})") from None
