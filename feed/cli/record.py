"""`consentry-feed record`: requests that came to somebody's desk, by letter or telephone.

The administrator records what restricts. What relaxes needs the person's own proof, which comes through a source that saw them.
"""

import json
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feed.cli.session import CALL_TIMEOUT_SECONDS, EXIT_USAGE, ConfigOption, JsonOption, connected, fail, load

if TYPE_CHECKING:
    import grpc

    from feed.grpc_api.intake_client_codec import Receipt

SERVICE = "consentry.intake.v1.IntakeService"

record_app = typer.Typer(
    help="Record a request that came by letter, telephone or any way but the usual ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class DenialKind(StrEnum):
    """What can be recorded without the person's proof."""

    OPT_OUT = "opt-out"
    WITHDRAW = "withdraw"
    REFUSE = "refuse"
    OBJECT = "object"
    REVOKE_BY_CONTROLLER = "revoke-by-controller"


class AgeBandName(StrEnum):
    """Age bands."""

    UNSPECIFIED = "unspecified"
    CHILD = "child"
    TEEN = "teen"
    ADULT = "adult"


IdOption = Annotated[
    str,
    typer.Option(
        "--id",
        metavar="NAMESPACE=VALUE",
        help="Such as email=ada@example.com; for VALUE, `-` reads a line from standard input.",
    ),
]
LeftArgument = Annotated[
    str, typer.Argument(metavar="LEFT", help="NAMESPACE=VALUE; for VALUE, `-` reads standard input.")
]
RightArgument = Annotated[
    str, typer.Argument(metavar="RIGHT", help="NAMESPACE=VALUE; for VALUE, `-` reads standard input.")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="Repeat a request with its key: it is recorded once."),
]
OccurredOption = Annotated[
    str | None,
    typer.Option("--occurred-at", metavar="TIME", help="When the person said it, such as 2026-01-31T12:00:00+01:00."),
]


@record_app.command()
def directive(
    kind: Annotated[DenialKind, typer.Argument(help="What the person said.")],
    identifier: IdOption,
    purpose: Annotated[str, typer.Option("--purpose", "-p", metavar="NAME", help="What for; * is everything.")] = "*",
    occurred_at: OccurredOption = None,
    idempotency_key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that a person does not want a purpose, or any.

    Example: consentry-feed record directive opt-out --id email=- -p direct_marketing -c feed.yaml
    """
    from consent.vocabulary.directive import Kind, Proof
    from feed.cli.identifiers import parse_subject
    from feed.grpc_api.intake_client_codec import format_directive_request
    from feed.intake.imports.rows import assurance_of_denial
    from feed.intake.requests import RecordDirective

    key, subject = idempotency_key or uuid.uuid4().hex, parse_subject(identifier)
    request = RecordDirective(
        idempotency_key=key,
        subject=subject,
        purpose=purpose,
        kind=Kind[kind.name],
        proof=Proof.NONE,
        assurance=assurance_of_denial(subject.namespace),
        occurred_at_ms=_parse_time(occurred_at),
    )
    _send("RecordDirective", format_directive_request(request), key, config, as_json=as_json)


@record_app.command()
def link(
    left: LeftArgument,
    right: RightArgument,
    idempotency_key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that two identifiers are one person. Without the person's proof of both, they share denials only.

    Example: consentry-feed record link email=ada@example.com user=17 -c feed.yaml
    """
    from consent.vocabulary.directive import Proof
    from feed.cli.identifiers import parse_subject
    from feed.grpc_api.intake_client_codec import format_link_request
    from feed.intake.requests import RecordLink

    key = idempotency_key or uuid.uuid4().hex
    request = RecordLink(
        idempotency_key=key,
        left=parse_subject(left),
        right=parse_subject(right),
        proof=Proof.NONE,
    )
    _send("RecordLink", format_link_request(request), key, config, as_json=as_json)


@record_app.command()
def unlink(
    left: LeftArgument,
    right: RightArgument,
    idempotency_key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that two identifiers are not one person, or no longer. Both keep every denial there was."""
    from feed.cli.identifiers import parse_subject
    from feed.grpc_api.intake_client_codec import format_unlink_request
    from feed.intake.requests import RecordUnlink

    key = idempotency_key or uuid.uuid4().hex
    request = RecordUnlink(idempotency_key=key, left=parse_subject(left), right=parse_subject(right))
    _send("RecordUnlink", format_unlink_request(request), key, config, as_json=as_json)


@record_app.command()
def restriction(
    identifier: IdOption,
    idempotency_key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that processing of a person's data is restricted (GDPR Art. 18). Lifting it needs the person's proof."""
    from consent.vocabulary.directive import Proof
    from feed.cli.identifiers import parse_subject
    from feed.grpc_api.intake_client_codec import format_restriction_request
    from feed.intake.requests import RecordRestriction

    key = idempotency_key or uuid.uuid4().hex
    request = RecordRestriction(
        idempotency_key=key,
        subject=parse_subject(identifier),
        restricted=True,
        proof=Proof.NONE,
    )
    _send("RecordRestriction", format_restriction_request(request), key, config, as_json=as_json)


@record_app.command()
def fact(
    identifier: IdOption,
    age_band: Annotated[AgeBandName, typer.Option(help="Age band.")] = AgeBandName.UNSPECIFIED,
    jurisdiction: Annotated[
        list[str] | None, typer.Option(help="Where the person lives, such as EU or US-CA; repeatable.")
    ] = None,
    idempotency_key: KeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a person's age band or jurisdictions. Without the person's proof they can only tighten answers."""
    from consent.vocabulary.directive import AgeBand, Proof
    from feed.cli.identifiers import parse_subject
    from feed.grpc_api.intake_client_codec import format_fact_request
    from feed.intake.requests import RecordFact

    key = idempotency_key or uuid.uuid4().hex
    request = RecordFact(
        idempotency_key=key,
        subject=parse_subject(identifier),
        age_band=AgeBand[age_band.name],
        jurisdictions=tuple(jurisdiction or ()),
        proof=Proof.NONE,
    )
    _send("RecordFact", format_fact_request(request), key, config, as_json=as_json)


def _send(method: str, request_bytes: bytes, key: str, config: Path | None, *, as_json: bool) -> None:
    from feed.grpc_api.intake_client_codec import parse_receipt

    # Said before it is sent: whoever sees no answer can repeat the request, and it is recorded once.
    typer.echo(f"idempotency key: {key}", err=True)
    with connected(load(config).admin_address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
        receipt = parse_receipt(call(request_bytes, timeout=CALL_TIMEOUT_SECONDS))
    _show(receipt, as_json=as_json)


def _show(receipt: "Receipt", *, as_json: bool) -> None:
    fields = {
        "reference": receipt.request_id.hex(),
        "token": f"{receipt.origin}:{receipt.seq}",
        "accepted_at": datetime.fromtimestamp(receipt.accepted_at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "replayed": receipt.is_replay,
    }
    if as_json:
        typer.echo(json.dumps(fields))
        return
    typer.echo(f"Recorded as entry {receipt.seq} of {receipt.origin}, reference {fields['reference']}")
    if receipt.is_replay:
        typer.echo("The idempotency key was known: this is the earlier record.")


def _parse_time(text: str | None) -> int:
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail("--occurred-at is not a time such as 2026-01-31T12:00:00+01:00", EXIT_USAGE)
    if moment.tzinfo is None:
        fail("--occurred-at needs a time zone, such as Z or +01:00", EXIT_USAGE)
    return round(moment.timestamp() * 1000)
