"""`consentry-feed keys`: signing keys and the trust file that names them."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feed.cli.session import EXIT_REFUSED, EXIT_USAGE, ConfigOption, JsonOption, fail, load

if TYPE_CHECKING:
    from consent.eventlog.keys import SigningKey, VerifierKey
    from consent.eventlog.trust import Trust

keys_app = typer.Typer(
    help=(
        "Signing keys, and the trust file that tells sidecars whom to believe. The root key seals the trust file: keep it offline,"
        " and bring it only to change who is believed."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Role(StrEnum):
    """What a key is for."""

    ROOT = "root"
    LOG = "log"
    COSIGNER = "cosigner"
    WITNESS = "witness"
    SOURCE = "source"
    APPROVER = "approver"


class RotatingRole(StrEnum):
    """Keys that the feed itself signs with."""

    LOG = "log"
    COSIGNER = "cosigner"


TrustOption = Annotated[
    Path, typer.Option("--trust", envvar="CONSENTRY_TRUST_FILE", metavar="FILE", help="The trust file.")
]
RootKeyOption = Annotated[
    Path,
    typer.Option(
        "--root-key", envvar="CONSENTRY_ROOT_KEY", metavar="FILE", help="Private root key that seals the trust file."
    ),
]
KeyIdArgument = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="8 hexadecimal digits, as `keys show` lists them.")
]


@keys_app.command()
def create(
    role: Annotated[Role, typer.Argument(help="What the key is for.")],
    name: Annotated[str, typer.Argument(help="Its name: a domain of yours and a path, such as `consent.example/web`.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="New file for the private key, mode 0600.")],
) -> None:
    """Make a key: the private half goes into FILE, the public half beside it (`.pub`) and onto the screen.

    Make it where it will be used, so that it never travels; only the public half goes into the trust file.

    Example: consentry-feed keys create approver consent.example/approver/office --out office.key
    """
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import format_signing_key, format_verifier_key, generate_signing_key
    from feed.signing.trust_changes import KINDS
    from hosting.key_files import write_file_atomically

    public_file = out.with_suffix(".pub")
    if out.exists() or public_file.exists() or out == public_file:
        fail(f"{out} or {public_file}: exists already; a key is never overwritten", EXIT_USAGE)
    try:
        key = generate_signing_key(name, KINDS[role.value], os.urandom(32))
        write_file_atomically(out, f"{format_signing_key(key)}\n".encode())
        write_file_atomically(public_file, f"{format_verifier_key(key.verifier_key)}\n".encode(), 0o644)
    except EventLogError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{out}: {error.strerror}", EXIT_USAGE)
    typer.echo(format_verifier_key(key.verifier_key))


@keys_app.command()
def show(
    trust: TrustOption,
    root_public_key: Annotated[
        Path | None,
        typer.Option(
            "--root-public-key", metavar="FILE", help="Public root key; `root.pub` beside the trust file if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a trust file and list whom it believes, from when and until when.

    Example: consentry-feed keys show --trust trust/trust.note
    """
    from consent.eventlog.keys import parse_verifier_key

    root_file = root_public_key or trust.with_name("root.pub")
    content = _open(trust, _parse(root_file, _read(root_file), parse_verifier_key))
    rows = _describe(content)
    numbers = {name: getattr(content, name) for name in _NUMBERS}
    if as_json:
        typer.echo(json.dumps({"tenant": content.tenant, "origin": content.origin, **numbers, "keys": rows}))
        return
    _print_trust(content, numbers, rows)


@keys_app.command()
def add(  # noqa: PLR0913, PLR0917 - an option each
    role: Annotated[Role, typer.Argument(help="What the key is for; the root key has no place in the file.")],
    key: Annotated[str, typer.Argument(help="Public key, or the file that holds it.")],
    trust: TrustOption,
    root_key: RootKeyOption,
    not_before: Annotated[datetime | None, typer.Option(help="In force from then on (UTC).")] = None,
    not_after: Annotated[datetime | None, typer.Option(help="In force until then (UTC).")] = None,
    source: Annotated[str, typer.Option(help="A source's key: name of the source, as in the feed's settings.")] = "",
    namespace: Annotated[list[str] | None, typer.Option(help="Of identifiers; may be repeated; none: all.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="That it may speak of; may be repeated; none: all.")] = None,
    max_proof: Annotated[int, typer.Option(min=0, max=3, help="Highest proof that it may assert.")] = 1,
    max_assurance: Annotated[int, typer.Option(min=0, max=2, help="Highest assurance that it may assert.")] = 1,
) -> None:
    """Believe one more key. Keys of one name are one party, so that a new one can overlap with the old one.

    Example: consentry-feed keys add witness witness.pub --trust trust/trust.note --root-key root.key
    """
    from consent.eventlog.keys import parse_verifier_key
    from consent.eventlog.trust import TrustedKey
    from feed.signing.trust_changes import add_key, make_rights

    if role is Role.ROOT:
        fail("role: the root key seals the trust file and does not stand in it", EXIT_USAGE)
    if (role is Role.SOURCE) != bool(source):
        fail("--source: needed for a source's key, and only there", EXIT_USAGE)

    def change(content: "Trust") -> "Trust":
        rights = make_rights(source, namespace or [], purpose or [], max_proof, max_assurance) if source else None
        trusted = TrustedKey(
            _read_public_key(key, parse_verifier_key), _seconds(not_before), _seconds(not_after), rights=rights
        )
        return add_key(content, role.value, trusted)

    _change(trust, root_key, change)


@keys_app.command()
def retire(
    key_id: KeyIdArgument,
    trust: TrustOption,
    root_key: RootKeyOption,
    until: Annotated[datetime | None, typer.Option(help="Last moment at which it is in force (UTC).")] = None,
    last_seq: Annotated[
        int | None, typer.Option(min=0, help="Last entry that a source or an approver may have signed with it.")
    ] = None,
) -> None:
    """Let a key end, at a time or with an entry.

    A stolen source's or approver's key ends with an entry, since its thief can sign with any time: `--last-seq` with the size of the log
    at which it was still safe. Entries up to there stay believed.

    Example: consentry-feed keys retire 1a2b3c4d --last-seq 120034 --trust trust/trust.note --root-key root.key
    """
    from feed.signing.trust_changes import retire_key

    if until is None and last_seq is None:
        fail("--until or --last-seq is needed", EXIT_USAGE)
    _change(
        trust,
        root_key,
        lambda content: retire_key(content, key_id, until_unix_seconds=_seconds(until), last_seq=last_seq),
    )


@keys_app.command()
def remove(key_id: KeyIdArgument, trust: TrustOption, root_key: RootKeyOption) -> None:
    """Believe a key of the log, a cosigner or a witness no longer, at once.

    Example: consentry-feed keys remove 1a2b3c4d --trust trust/trust.note --root-key root.key
    """
    from feed.signing.trust_changes import remove_key

    _change(trust, root_key, lambda content: remove_key(content, key_id))


@keys_app.command("set")
def set_numbers(
    trust: TrustOption,
    root_key: RootKeyOption,
    cosigner_threshold: Annotated[int | None, typer.Option(help="Cosigners that must have signed.")] = None,
    witness_threshold: Annotated[int | None, typer.Option(help="Witnesses that must have seen a checkpoint.")] = None,
    approver_threshold: Annotated[
        int | None, typer.Option(help="Approvers of a policy or override, at least 2.")
    ] = None,
    minimum_size: Annotated[int | None, typer.Option(help="A log smaller than this is not ours.")] = None,
) -> None:
    """Change thresholds and the minimum size.

    Example: consentry-feed keys set --witness-threshold 2 --trust trust/trust.note --root-key root.key
    """
    from feed.signing.trust_changes import change_numbers

    numbers = dict(
        zip(_NUMBERS, (cosigner_threshold, witness_threshold, approver_threshold, minimum_size), strict=True)
    )
    if all(number is None for number in numbers.values()):
        fail("nothing to set; see --help", EXIT_USAGE)
    _change(trust, root_key, lambda content: change_numbers(content, numbers))


@keys_app.command()
def rotate(
    role: Annotated[RotatingRole, typer.Argument(help="Which of the feed's own keys.")],
    config: ConfigOption = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the rotation: the new key alone signs, the old one is destroyed.")
    ] = False,
) -> None:
    """Rotate a key that the feed signs with, in two steps that need no stop of anything but the feed.

    First `keys rotate log`: a second key is made, and from the feed's next start both sign. Add the printed key to the trust file (`keys
    add`), and give that file to every sidecar, in any order and at any pace: old and new files both accept. Then
    `keys rotate log --finish`, restart the feed, and remove the old key from the trust file (`keys remove`).
    """
    settings = load(config)
    from consent.eventlog.keys import format_verifier_key
    from feed.signing.key_store import finish_rotation, prepare_rotation
    from hosting.errors import HostingError

    directory, origin = settings.event_log.keys_directory, settings.origin
    try:
        if finish:
            old, new = finish_rotation(directory, origin, role.value)
            typer.echo(f"The {role.value} key {new.key_id.hex()} signs alone from the feed's next start on.")
            typer.echo(f"Then: consentry-feed keys remove {old.key_id.hex()} --trust … --root-key …")
            return
        key = prepare_rotation(directory, origin, role.value)
    except HostingError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    typer.echo(format_verifier_key(key.verifier_key))
    typer.echo(
        f"Next: restart the feed; consentry-feed keys add {role.value} KEY --trust … --root-key …; give the trust file to every"
        f" sidecar; then consentry-feed keys rotate {role.value} --finish",
        err=True,
    )


_NUMBERS = ("cosigner_threshold", "witness_threshold", "approver_threshold", "minimum_size")
_MAX_KEY_BYTES = 4096


def _change(trust: Path, root_key: Path, change: Callable[["Trust"], "Trust"]) -> None:
    """Open the trust file, change it, seal it anew and put it in its place in one step."""
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.keys import parse_signing_key
    from consent.eventlog.trust import seal_trust
    from feed.errors import FeedError
    from hosting.errors import HostingError
    from hosting.key_files import read_private_file, write_file_atomically

    try:
        text = bytes(read_private_file(root_key, max_bytes=_MAX_KEY_BYTES))
    except HostingError as error:
        fail(f"{error.reason}: {error}", EXIT_USAGE)
    key: SigningKey = _parse(root_key, text, parse_signing_key)
    content = _open(trust, key.verifier_key)
    try:
        write_file_atomically(trust, seal_trust(change(content), key), 0o644)
    except (EventLogError, FeedError) as error:
        fail(f"{error.reason}: {error}", EXIT_REFUSED)
    except OSError as error:
        fail(f"{trust}: {error.strerror}", EXIT_USAGE)
    typer.echo(f"{trust}: sealed anew. Sidecars and the feed read it at their next start.")


def _open(trust: Path, root_key: "VerifierKey") -> "Trust":
    from consent.eventlog.errors import EventLogError
    from consent.eventlog.trust import open_trust

    try:
        return open_trust(_read(trust), root_key)
    except EventLogError as error:
        fail(f"{trust}: {error.reason}: {error}", EXIT_USAGE)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}", EXIT_USAGE)


def _parse(path: Path | str, text: bytes, parse: Callable[[str], Any]) -> Any:
    from consent.eventlog.errors import EventLogError

    try:
        return parse(text.decode("utf-8", "replace").strip())
    except EventLogError as error:
        fail(f"{path}: {error.reason}: {error}", EXIT_USAGE)


def _read_public_key(given: str, parse: Callable[[str], Any]) -> Any:
    path = Path(given)
    # A key in its text form holds two plus signs, and no file is named so by accident.
    return _parse("key", given.encode(), parse) if given.count("+") >= 2 else _parse(path, _read(path), parse)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def _describe(trust: "Trust") -> list[dict[str, Any]]:
    from consent.eventlog.keys import format_verifier_key
    from feed.signing.trust_changes import KEY_LISTS

    return [
        {
            "role": role,
            "name": key.verifier_key.name,
            "key_id": key.verifier_key.key_id.hex(),
            "key": format_verifier_key(key.verifier_key),
            "not_before": _format_time(key.not_before_unix_seconds),
            "not_after": _format_time(key.not_after_unix_seconds),
            "last_seq": key.last_seq,
            "rights": None if key.rights is None else {
                "source": key.rights.source,
                "namespaces": list(key.rights.namespaces),
                "purposes": list(key.rights.purposes),
                "max_proof": key.rights.max_proof,
                "max_assurance": key.rights.max_assurance,
            },
        }
        for role, key_list in KEY_LISTS.items()
        for key in getattr(trust, key_list)
    ]  # fmt: skip


def _format_time(unix_seconds: int | None) -> str | None:
    return None if unix_seconds is None else datetime.fromtimestamp(unix_seconds, UTC).isoformat()


def _print_trust(trust: "Trust", numbers: dict[str, int], rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"Tenant {trust.tenant}, log {trust.origin}", highlight=False, markup=False)
    console.print(", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items()))
    table = Table("role", "name", "key id", "from", "until", "last entry", "may vouch for")
    for row in rows:
        rights = row["rights"]
        vouches = "" if rights is None else (
            f"{rights['source']}: {', '.join(rights['purposes'])}; proof {rights['max_proof']}, assurance {rights['max_assurance']}"
        )  # fmt: skip
        cells = (row["role"], row["name"], row["key_id"], row["not_before"], row["not_after"], row["last_seq"], vouches)
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    console.print(table)
