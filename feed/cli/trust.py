"""`consentry-feed trust`: keys of sources and approvers, and the trust file that says what they may sign. No feed is asked."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from feed.cli.session import EXIT_USAGE, fail, read_text

trust_app = typer.Typer(
    help="Keys of sources and approvers, and the trust file that says what they may sign; all offline.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TrustFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Trust file.")]


class SignerKind(StrEnum):
    """Whose key."""

    SOURCE = "source"
    APPROVER = "approver"


@trust_app.command("new-key")
def new_key(
    kind: Annotated[SignerKind, typer.Argument(help="Whose key: an intake system's, or a person's who approves.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key; keys of one name are one approver.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file for the private key, mode 0600.")],
) -> None:
    """Make a signing key, and print its public half for the trust file. Whoever will sign with it runs this, and keeps the file.

    Example: consentry-feed trust new-key approver ada.example --out ada.key
    """
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import KeyKind, format_signing_key, format_verifier_key, generate_signing_key

    try:
        key = generate_signing_key(name, KeyKind[kind.name], os.urandom(32))
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"{format_signing_key(key)}\n")
    except EventLogError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{out}: {error.strerror}", EXIT_USAGE)
    typer.echo(format_verifier_key(key.verifier_key))


@trust_app.command()
def show(
    file: TrustFileArgument,
    root_key_file: Annotated[Path, typer.Option(metavar="FILE", help="Verifier key of whoever signs the trust file.")],
) -> None:
    """Verify a trust file and print it as JSON, to be changed and sealed anew.

    Example: consentry-feed trust show trust.note --root-key-file root.pub > trust.json
    """
    from consent.eventlog.trust import format_trust
    from hosting.errors import UnusableStartFile
    from hosting.trust_files import load_trust

    try:
        trust = load_trust(file, root_key_file)
    except UnusableStartFile as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    typer.echo(json.dumps(json.loads(format_trust(trust)), indent=2, sort_keys=True, ensure_ascii=False))


@trust_app.command()
def seal(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON as `trust show` prints it.")],
    root_key: Annotated[Path, typer.Option(metavar="KEYFILE", help="Private root key (`PRIVATE+KEY+...`, mode 0600).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Trust file to write, in place of an older one.")],
) -> None:
    """Check a trust file and sign it with the root key. Feed and sidecars read it when they start.

    A key that was lost or stolen stays in it, with `last_seq`: the last entry that it is still believed for.
    Example: consentry-feed trust seal trust.json --root-key root.key --out trust.note
    """
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import KeyKind
    from consent.eventlog.trust import parse_trust, seal_trust
    from hosting.errors import KeyFileError
    from hosting.key_files import write_file_atomically
    from hosting.trust_files import read_signing_key

    try:
        content = json.loads(read_text(file), object_pairs_hook=_refuse_duplicates)
        canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        note = seal_trust(parse_trust(f"{canonical}\n"), read_signing_key(root_key, KeyKind.LOG))
        write_file_atomically(out, note, 0o644)
    except (EventLogError, KeyFileError) as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    except (ValueError, RecursionError):
        fail(f"{file}: not JSON", EXIT_USAGE)
    except OSError as error:
        fail(f"{out}: {error.strerror}", EXIT_USAGE)
    typer.echo(f"Wrote {out}; restart the feed and its sidecars to put it in force")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        fail("trust file: one field stands twice", EXIT_USAGE)
    return content
