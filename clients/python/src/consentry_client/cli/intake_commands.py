"""`consentry opt-out`, `consentry grant` and `consentry link`."""

from collections.abc import Callable
from datetime import UTC, datetime
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
from consentry_client.cli.identifiers import (
    DeviceOption,
    EmailOption,
    IdOption,
    PhoneOption,
    UserOption,
    gather_identifiers,
    parse_identifier,
    require_one,
)
from consentry_client.cli.problem import Problem
from consentry_client.cli.receipt_files import require_new_file, write_receipt
from consentry_client.cli.rendering import print_acceptance, print_hint
from consentry_client.decision import Reason
from consentry_client.endpoint import TlsFiles
from consentry_client.errors import ConsentryError, IntakeError
from consentry_client.intake import IntakeClient
from consentry_client.intake_course import Acceptance
from consentry_client.settings import INTAKE_ADDRESS_VARIABLE
from consentry_client.vocabulary import Assurance, GrantedBy, Proof

KeyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="Repeat a request with its key: it is recorded once."),
]
OccurredOption = Annotated[
    str | None,
    typer.Option("--occurred-at", metavar="TIME", help="When the person said it, such as 2026-01-31T12:00:00+01:00."),
]
ProofOption = Annotated[Proof, typer.Option("--proof", help="How well the request was tied to the person.")]
AssuranceOption = Annotated[
    Assurance | None, typer.Option("--assurance", help="What kind of identifier it came in by; default: by namespace.")
]


def opt_out(  # noqa: PLR0913 - a command has an argument for each of its options
    *,
    email: EmailOption = None,
    phone: PhoneOption = None,
    user: UserOption = None,
    device: DeviceOption = None,
    identifier: IdOption = None,
    purpose: Annotated[str, typer.Option("--purpose", "-p", metavar="NAME", help="What for; * is everything.")] = "*",
    proof: ProofOption = Proof.NONE,
    assurance: AssuranceOption = None,
    occurred_at: OccurredOption = None,
    idempotency_key: KeyOption = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="New file for the proof that it is in the log.")
    ] = None,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Record that a person does not want a purpose, or any.

    Exit code: 0 recorded, 2 not accepted or an error. Prints the reference for the person and the token that
    `consentry check --min-token` takes.

    \b
    Examples:
      consentry opt-out --email ada@example.com --purpose marketing.email
      echo ada@example.com | consentry opt-out --email - --receipt ada.tlog-proof
    """  # noqa: D301 - the \b keeps the lines apart
    if receipt is not None:
        require_new_file("--receipt", receipt)
    subject = require_one(gather_identifiers(email, phone, user, device, identifier))
    moment = parse_time("--occurred-at", occurred_at)
    _send(
        lambda client: client.opt_out(
            subject,
            purpose,
            proof=proof,
            assurance=assurance,
            occurred_at=moment,
            idempotency_key=idempotency_key,
            timeout_seconds=timeout,
        ),
        address,
        gather_tls(tls_ca, tls_cert, tls_key),
        as_json,
        receipt,
    )


def grant(  # noqa: PLR0913 - a command has an argument for each of its options
    *,
    purpose: Annotated[str, typer.Option("--purpose", "-p", metavar="NAME", help="What for.")],
    proof: ProofOption,
    email: EmailOption = None,
    phone: PhoneOption = None,
    user: UserOption = None,
    device: DeviceOption = None,
    identifier: IdOption = None,
    assurance: AssuranceOption = None,
    expires_at: Annotated[
        str | None, typer.Option("--expires-at", metavar="TIME", help="When it ends, with a time zone.")
    ] = None,
    subtree: Annotated[bool, typer.Option("--subtree", help="It also holds for the purposes below.")] = False,
    notice_version: Annotated[
        int, typer.Option("--notice-version", metavar="N", min=0, help="Version of the notice that was shown.")
    ] = 0,
    recipient: Annotated[
        str, typer.Option("--recipient", metavar="NAME", help="Who may receive the data; default: you.")
    ] = "",
    explicit: Annotated[bool, typer.Option("--explicit", help="As special categories of data need it.")] = False,
    granted_by: Annotated[GrantedBy, typer.Option("--granted-by", help="Who consented.")] = GrantedBy.SELF,
    occurred_at: OccurredOption = None,
    idempotency_key: KeyOption = None,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Record that a person consents to a purpose.

    Exit code: 0 recorded, 2 not accepted or an error. What a grant can lift depends on its proof.

    \b
    Examples:
      consentry grant --user 17 -p analytics --proof authenticated --notice-version 3
      consentry grant --email - -p marketing.email --proof double-opt-in --expires-at 2027-01-01T00:00:00Z
    """  # noqa: D301 - the \b keeps the lines apart
    subject = require_one(gather_identifiers(email, phone, user, device, identifier))
    moment, end = parse_time("--occurred-at", occurred_at), parse_time("--expires-at", expires_at)
    _send(
        lambda client: client.grant(
            subject,
            purpose,
            proof=proof,
            assurance=assurance,
            occurred_at=moment,
            expires_at=end,
            subtree=subtree,
            notice_version=notice_version,
            recipient=recipient,
            explicit=explicit,
            granted_by=granted_by,
            idempotency_key=idempotency_key,
            timeout_seconds=timeout,
        ),
        address,
        gather_tls(tls_ca, tls_cert, tls_key),
        as_json,
    )


def link(  # noqa: PLR0913 - a command has an argument for each of its options
    *,
    left: Annotated[str, typer.Option("--left", metavar="NAMESPACE=VALUE", help="One identifier; VALUE may be -.")],
    right: Annotated[str, typer.Option("--right", metavar="NAMESPACE=VALUE", help="The other; VALUE may be -.")],
    proof: ProofOption,
    occurred_at: OccurredOption = None,
    idempotency_key: KeyOption = None,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Record that two identifiers are one person.

    Denials are shared at once, grants only as far as the person proved both ends. Exit code: 0 recorded, 2 not
    accepted or an error.

    \b
    Examples:
      consentry link --left user=17 --right email=ada@example.com --proof authenticated
      printf '17\\nada@example.com\\n' | consentry link --left user=- --right email=- --proof link
    """  # noqa: D301 - the \b keeps the lines apart
    ends = parse_identifier(left), parse_identifier(right)
    moment = parse_time("--occurred-at", occurred_at)
    _send(
        lambda client: client.link(
            *ends, proof, occurred_at=moment, idempotency_key=idempotency_key, timeout_seconds=timeout
        ),
        address,
        gather_tls(tls_ca, tls_cert, tls_key),
        as_json,
    )


def parse_time(option: str, text: str | None) -> datetime | None:
    """Reads an ISO 8601 time with a zone, as UTC.

    Raises:
        Problem: It has another form, or no zone.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Problem("TIME_FORM", f"{option} must be a time such as 2026-01-31T12:00:00+01:00") from None
    if moment.tzinfo is None:
        raise Problem("TIME_ZONE_MISSING", f"{option} needs a time zone: end it with Z or +01:00")
    return moment.astimezone(UTC)


def _send(
    request: Callable[[IntakeClient], Acceptance],
    address: str | None,
    tls: TlsFiles | None,
    as_json: bool,
    receipt: Path | None = None,
) -> None:
    with IntakeClient(address, tls=tls) as client:
        try:
            acceptance = request(client)
        except IntakeError as error:
            if error.reason == Reason.CLIENT_UNAVAILABLE:
                print_hint(explain_outage(address, tls, INTAKE_ADDRESS_VARIABLE))
            raise
        except ValueError as error:
            raise Problem("REQUEST_INVALID", str(error)) from None
        # Before the receipt is asked for: whatever comes of that, the request is recorded.
        print_acceptance(acceptance, as_json)
        if receipt is not None:
            _write_receipt(client, acceptance.token.seq, receipt)


def _write_receipt(client: IntakeClient, seq: int, path: Path) -> None:
    try:
        write_receipt("--receipt", path, client.receipt(seq).receipt_bytes)
    except ConsentryError as error:
        again = f"the request is recorded; fetch the receipt with `consentry receipt {seq} --out FILE`"
        raise Problem("RECEIPT_MISSING", f"{error}; {again}") from None
