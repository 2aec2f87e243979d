"""`consentry-feed policy`: check, approve, publish and show policies; make one of a vocabulary."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feed.cli.session import (
    CALL_TIMEOUT_SECONDS,
    EXIT_REFUSED,
    EXIT_USAGE,
    ConfigOption,
    JsonOption,
    connected,
    fail,
    load,
    read_text,
)

if TYPE_CHECKING:
    import grpc

    from consent.policy import Policy, PolicyChange

DEFAULT_NAME = "default"

policy_app = typer.Typer(
    help="Policies: which purposes there are and what each needs.", no_args_is_help=True, rich_markup_mode=None
)

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help=f"YAML file (docs/policy.md), or `{DEFAULT_NAME}` for the policy that comes with the program.",
    ),
]


@policy_app.command()
def check(file: FileArgument, as_json: JsonOption = False) -> None:
    """Check a policy file without publishing it: unknown parents, cycles, unknown keys, regimes that are too weak.

    Example: consentry-feed policy check policy.yaml
    """
    policy = _load_file(file)
    facts = {
        "version": policy.version,
        "purposes": len(policy.purposes),
        "retired": sum(purpose.retired for purpose in policy.purposes.values()),
        "regimes": len(policy.regimes),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"{file}: a valid policy, version {policy.version}: {facts['purposes']} purposes, {facts['regimes']} regimes"
    )


@policy_app.command()
def publish(
    file: FileArgument,
    config: ConfigOption = None,
    approval: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Approval that `policy approve` made; once for each approver."),
    ] = None,
    sign_with: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="KEYFILE",
            help="FOR DEVELOPMENT ONLY: approve now, with this approver's private key; once for each approver. In production the keys "
            "belong to different people, who approve offline with `policy approve`: nobody holds two of them.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Publish relaxing changes without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a policy in force at every sidecar, after showing what it changes. It needs the approvals of two people or more.

    A change that can turn a deny into an allow is marked as relaxing and asked about.
    Example: consentry-feed policy publish policy.yaml --approval ada.approval --approval grace.approval
    """
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    from consent.policy import format_policy
    from feed.cli.approvals import gather_approvals
    from feed.grpc_api.attestation_codec import encode_attestation

    policy, settings = _load_file(file), load(config)
    approvals = gather_approvals(policy, settings.origin, approval or (), sign_with or ())
    with connected(settings.admin_address) as channel:
        changes = _compare(_fetch(channel), policy)
        _show(changes)
        if any(change.relaxing for change in changes) and not yes:
            _confirm()
        stub = intake_pb2_grpc.PolicyServiceStub(channel)
        request = intake_pb2.PublishPolicyRequest(
            document=format_policy(policy), approvals=[encode_attestation(each) for each in approvals]
        )
        response = stub.PublishPolicy(request, timeout=CALL_TIMEOUT_SECONDS)
    if as_json:
        typer.echo(json.dumps({"version": response.version, "token": f"{response.token.origin}:{response.token.seq}"}))
        return
    typer.echo(f"Published policy version {response.version} as entry {response.token.seq} of {response.token.origin}")


@policy_app.command()
def approve(  # noqa: PLR0913 - a command has an argument for each of its options
    file: FileArgument,
    *,
    key: Annotated[Path, typer.Option(metavar="KEYFILE", help="Your private key (`PRIVATE+KEY+...`, mode 0600).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file for the approval.")],
    trust_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust file that names the log, and you as an approver.")
    ] = None,
    root_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Verifier key of whoever signs the trust file.")
    ] = None,
    origin: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the log, without a trust file.")] = None,
    replaces: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Approve only if the policy replaces this version.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The policy in force (`policy show`): shows what changes.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
) -> None:
    """Sign for a policy as one of its approvers, offline: no feed is asked. Whoever publishes it hands the approval in.

    Example: consentry-feed policy approve policy.yaml --key ada.key --trust-file trust.note --root-key-file root.pub --out ada.approval
    """
    from feed.cli.approvals import (
        approved_lines,
        confirm_approval,
        read_approver_key,
        read_origin,
        sign_approval,
        write_approval,
    )

    policy, signing_key = _load_file(file), read_approver_key(key)
    log = read_origin(trust_file, root_key_file, origin, signing_key)
    if replaces is not None and replaces != policy.replaces_version:
        fail(f"{file}: replaces version {policy.replaces_version}, not {replaces}", EXIT_REFUSED)
    content = approved_lines(policy, log)
    for line in (f"log {log}", *content, f"approver {signing_key.name}"):
        typer.echo(line, err=True)
    if against is not None:
        _show(_compare(_load_file(str(against)), policy))
    if not yes:
        confirm_approval()
    write_approval(out, log, content, sign_approval(signing_key, log, content))
    typer.echo(f"Wrote {out}")


@policy_app.command()
def show(config: ConfigOption = None) -> None:
    """Print the policy in force as a policy file.

    Example: consentry-feed policy show -c feed.yaml > policy.yaml
    """
    from consent.policy import format_policy_file

    with connected(load(config).admin_address) as channel:
        policy = _fetch(channel)
    if policy is None:
        fail("no policy was published yet; `consentry-feed policy publish` puts one in force", EXIT_REFUSED)
    typer.echo(format_policy_file(policy), nl=False)


@policy_app.command()
def default() -> None:
    """Print the policy that comes with the program, to start one of your own from.

    Example: consentry-feed policy default > policy.yaml
    """
    from feed.policies.shipped import read_default_policy

    typer.echo(read_default_policy(), nl=False)


@policy_app.command("import-dpv")
def import_dpv(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="purposes.csv of the W3C Data Privacy Vocabulary.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; default: standard output.")
    ] = None,
) -> None:
    """Make a policy file of the W3C Data Privacy Vocabulary's table of purposes. Every purpose starts out on consent.

    Example: consentry-feed policy import-dpv purposes.csv -o policy.yaml
    """
    from consent.policy import PolicyError
    from feed.policies.dpv import convert_dpv

    try:
        with file.open(encoding="utf-8-sig", newline="") as table:
            text = convert_dpv(table, file.name)
    except PolicyError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", EXIT_USAGE)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{output}: {error.strerror}", EXIT_USAGE)
    typer.echo(f"Wrote {output}; check it with `consentry-feed policy check {output}`")


def _load_file(file: str) -> "Policy":
    from consent.policy import PolicyError, load_policy_file
    from feed.policies.shipped import DEFAULT_POLICY_NAME, read_default_policy

    name, text = (DEFAULT_POLICY_NAME, read_default_policy()) if file == DEFAULT_NAME else (file, read_text(Path(file)))
    try:
        return load_policy_file(text, name)
    except PolicyError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)


def _fetch(channel: "grpc.Channel") -> "Policy | None":
    from consentry.intake.v1 import intake_pb2, intake_pb2_grpc

    from consent.policy import parse_policy

    stub = intake_pb2_grpc.PolicyServiceStub(channel)
    document = stub.GetPolicy(intake_pb2.GetPolicyRequest(), timeout=CALL_TIMEOUT_SECONDS).document
    return parse_policy(document) if document else None


def _compare(old: "Policy | None", new: "Policy") -> "list[PolicyChange]":
    from consent.policy import PolicyError, check_replacement, describe_changes

    try:
        check_replacement(old, new)
    except PolicyError as error:
        fail(f"{error.reason}: {error}", EXIT_REFUSED)
    return describe_changes(old, new) if old is not None else []


def _show(changes: "list[PolicyChange]") -> None:
    for change in changes:
        typer.echo(f"  {'relaxes ' if change.relaxing else 'changes '} {change.text}", err=True)


def _confirm() -> None:
    if not sys.stdin.isatty():
        fail("some changes relax; repeat with --yes to publish them", EXIT_REFUSED)
    typer.confirm("Some changes relax: they can turn a deny into an allow. Publish them?", abort=True, err=True)
