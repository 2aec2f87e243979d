"""`consentry check`."""

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
)
from consentry_client.cli.problem import Problem
from consentry_client.cli.rendering import print_answer, print_hint
from consentry_client.client import Client
from consentry_client.consistency import ConsistencyToken
from consentry_client.context import Context
from consentry_client.decision import Reason
from consentry_client.explanation import Explanation
from consentry_client.question import AskOptions
from consentry_client.vocabulary import AgeBand

EXIT_ALLOW = 0
EXIT_DENY = 1
EXIT_ERROR = 2


def check(  # noqa: PLR0913 - a command has an argument for each of its options
    *,
    purpose: Annotated[
        list[str], typer.Option("--purpose", "-p", metavar="NAME", help="What for; repeat it, and all must be allowed.")
    ],
    email: EmailOption = None,
    phone: PhoneOption = None,
    user: UserOption = None,
    device: DeviceOption = None,
    identifier: IdOption = None,
    jurisdiction: Annotated[
        list[str] | None, typer.Option("--jurisdiction", metavar="CODE", help="Such as DE, EU, US-CA; repeatable.")
    ] = None,
    age_band: Annotated[AgeBand, typer.Option("--age-band", help="The person's age, where you know it.")] = (
        AgeBand.UNSPECIFIED
    ),
    gpc: Annotated[bool, typer.Option("--gpc", help="The request carried Sec-GPC: 1.")] = False,
    recipient: Annotated[
        str, typer.Option("--recipient", metavar="NAME", help="Who would receive the data; default: you.")
    ] = "",
    data_category: Annotated[
        list[str] | None, typer.Option("--data-category", metavar="NAME", help="Such as health; repeatable.")
    ] = None,
    min_token: Annotated[
        str | None,
        typer.Option("--min-token", metavar="ORIGIN:SEQ", help="Demand an answer that knows this request."),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="How long the sidecar may wait for --min-token.")
    ] = 0.0,
    explain: Annotated[bool, typer.Option("--explain", help="Show the rules tried and the deciding event.")] = False,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Ask whether a person's data may be used for a purpose.

    Exit code: 0 allowed, 1 denied, 2 no decision or an error. Several identifiers are taken for one person.

    \b
    Examples:
      consentry check --email ada@example.com --purpose marketing.email
      echo ada@example.com | consentry check --email - -p analytics --jurisdiction EU --json
      consentry check --user 17 -p marketing.email --min-token feed.example/log:42 --wait 1
      consentry check --id loyalty=17 -p analytics --explain
    """  # noqa: D301 - the \b keeps the lines apart
    subject = gather_identifiers(email, phone, user, device, identifier)
    if not subject:
        raise Problem("IDENTIFIER_MISSING", "say who: --email, --phone, --user, --device or --id")
    context = Context(jurisdiction or (), age_band, gpc, recipient, data_category or ())
    token = ConsistencyToken.parse(min_token) if min_token is not None else None
    options = AskOptions(context=context, min_token=token, wait_seconds=wait, timeout_seconds=timeout)
    tls = gather_tls(tls_ca, tls_cert, tls_key)
    with Client(address, tls=tls) as client:
        answer = client.explain(subject, purpose, **options) if explain else client.check(subject, purpose, **options)
    decision = answer.decision if isinstance(answer, Explanation) else answer
    print_answer(answer, as_json)
    if decision.reason is Reason.CLIENT_UNAVAILABLE and not decision.error_reason:
        print_hint(explain_outage(address, tls))
    elif explain and decision.reason is Reason.CLIENT_REFUSED:
        print_hint("this listener does not permit explanations; ask without --explain")
    raise typer.Exit(EXIT_ERROR if decision.failed else EXIT_ALLOW if decision else EXIT_DENY)
