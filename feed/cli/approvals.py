"""Approvals of policies: made by people offline, each with a key of their own, and handed in with the policy."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from feed.cli.session import EXIT_REFUSED, EXIT_USAGE, fail

if TYPE_CHECKING:
    from consent.eventlog.approval_note import Approval
    from consent.eventlog.attestation import Attestation
    from consent.eventlog.keys import SigningKey
    from consent.policy import Policy


def gather_approvals(
    policy: "Policy", origin: str, approval_files: Sequence[Path], key_files: Sequence[Path]
) -> "list[Attestation]":
    """The approvals in files, and those made now with keys; ends the command where one is for something else."""
    content = approved_lines(policy, origin)
    approvals = [read_approval(file) for file in approval_files]
    for file, approval in zip(approval_files, approvals, strict=True):
        if (approval.origin, approval.content) != (origin, content):
            fail(
                f"{file}: approves something else than version {policy.version}, which replaces "
                f"{policy.replaces_version}, of this document for {origin}: {', '.join(approval.content)}",
                EXIT_REFUSED,
            )
    made = [sign_approval(read_approver_key(file), origin, content) for file in key_files]
    names = [attestation.key_name for attestation in (*(each.attestation for each in approvals), *made)]
    if len(set(names)) < len(names):
        fail("the same approver has signed twice; a policy needs different people", EXIT_REFUSED)
    return [*(approval.attestation for approval in approvals), *made]


def approved_lines(policy: "Policy", origin: str) -> tuple[str, ...]:
    """What approvers of this policy sign, beside the time and the name of the log."""
    from consent.authority import approved_content
    from consent.event import PolicyEvent
    from consent.policy import format_policy

    return approved_content(
        PolicyEvent(
            origin=origin,
            version=policy.version,
            replaces_version=policy.replaces_version,
            document=format_policy(policy),
        )
    )


def sign_approval(key: "SigningKey", origin: str, content: Sequence[str]) -> "Attestation":
    """Sign as an approver, now."""
    from consent.eventlog.attestation import approve

    return approve(origin, content, key, int(time.time()))


def read_approver_key(file: Path) -> "SigningKey":
    """An approver's private key, or the end of the command."""
    from consent.eventlog.keys import KeyKind
    from hosting.errors import KeyFileError
    from hosting.trust_files import read_signing_key

    try:
        return read_signing_key(file, KeyKind.APPROVER)
    except KeyFileError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)


def read_approval(file: Path) -> "Approval":
    """An approval file, or the end of the command."""
    from consent.eventlog.approval_note import parse_approval
    from consent.eventlog.errors import MalformedAttestation

    try:
        return parse_approval(file.read_bytes())
    except MalformedAttestation as error:
        fail(f"{file}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{file}: {error.strerror}", EXIT_USAGE)


def read_origin(trust_file: Path | None, root_key_file: Path | None, origin: str | None, key: "SigningKey") -> str:
    """Name of the log: from a verified trust file, which must believe the key, or as it was typed."""
    if trust_file is None or root_key_file is None:
        if origin is None or trust_file is not None or root_key_file is not None:
            fail("name the log: --trust-file with --root-key-file, or --origin", EXIT_USAGE)
        return origin
    from hosting.errors import UnusableStartFile
    from hosting.trust_files import load_trust

    try:
        trust = load_trust(trust_file, root_key_file)
    except UnusableStartFile as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    if origin not in (None, trust.origin):
        fail("--origin is not the log of the trust file", EXIT_USAGE)
    if key.verifier_key not in (trusted.verifier_key for trusted in trust.approver_keys):
        fail(f"{trust_file}: does not have {key.name} as an approver", EXIT_REFUSED)
    return trust.origin


def write_approval(file: Path, origin: str, content: Sequence[str], attestation: "Attestation") -> None:
    """Write the approval file, never over another one."""
    from consent.eventlog.approval_note import format_approval

    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as stream:
            stream.write(format_approval(origin, content, attestation))
    except OSError as error:
        fail(f"{file}: {error.strerror}", EXIT_USAGE)


def confirm_approval() -> None:
    """Ask the person whose key it is; a script says --yes."""
    if not sys.stdin.isatty():
        fail("repeat with --yes to sign", EXIT_REFUSED)
    typer.confirm("Approve exactly this?", abort=True, err=True)
