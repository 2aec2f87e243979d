"""`consentry-auditor keys`, `init` and `show-config`: what an auditor needs before there is anything to audit."""

from pathlib import Path
from typing import Annotated

import typer

from auditor.cli.session import ConfigOption, checking, fail, load

keys_app = typer.Typer(help="The auditor's own key.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the auditor, as it stands in what is sealed to it and what it signs."),
]

_CONFIG = """\
# Settings of consentry-auditor; docs/configuration.md has all of them.
folder: {folder}
key_file: {key_file}
{sources}
# Where feed and sidecars answer auditors; docs/auditing.md says how they are set up for that.
# feed:
#   address: feed.example:7443
#   tls: {{cert_file: auditor.crt, key_file: auditor-tls.key, ca_file: ca.crt}}
# sidecars:
#   - sidecar_id: pod-1
#     address: unix:///run/consentry/pod-1/audit.sock
"""


@keys_app.command("create")
def create(
    name: NameArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The key, mode 0600; its public half is FILE.pub.")
    ],
) -> None:
    """Make the key that opens what is sealed to the auditor and signs what the auditor exports.

    Hand out FILE.pub, and keep FILE. Example: consentry-auditor keys create jane --out auditor.key
    """
    _create_key(name, out)
    typer.echo(f"wrote {out} (keep it) and {out}.pub (hand it out)")


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    trust: Annotated[Path, typer.Option("--trust", metavar="FILE", help="The signed trust file: whom to believe.")],
    root_key: Annotated[
        Path | None,
        typer.Option(
            "--root-key", metavar="FILE", help="Public root key; `root.pub` beside the trust file if not given."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the auditor.")] = "auditor",
    feed: Annotated[
        str | None,
        typer.Option(
            "--feed", metavar="SOCKET", help="Where the feed answers auditors: unix:///path. TCP: in the file."
        ),
    ] = None,
    sidecars: Annotated[
        list[str] | None,
        typer.Option("--sidecar", metavar="NAME=SOCKET", help="The same of a sidecar; may be given several times."),
    ] = None,
) -> None:
    """Make a folder to audit from: settings, a key, and an audit folder with the trust file.

    Example: consentry-auditor init audits/2026 --trust trust.note --root-key root.pub --name jane --feed unix:///run/feed-audit.sock
    """
    from auditor.folder import ROOT_KEY_FILE_NAME, TRUST_FILE_NAME
    from hosting.key_files import write_file_atomically
    from hosting.locks import create_directory
    from hosting.trust_files import load_trust

    root_file = root_key or trust.with_name("root.pub")
    sources = _describe_sources(feed, sidecars or [])
    with checking():
        load_trust(trust, root_file)
        if directory.exists() and any(directory.iterdir()):
            fail(f"{directory}: exists and is not empty")
        create_directory(directory, 0o700)
        folder, key_file = directory.absolute() / "audit", directory.absolute() / "auditor.key"
        create_directory(folder, 0o700)
        _create_key(name, key_file)
        write_file_atomically(folder / TRUST_FILE_NAME, trust.read_bytes())
        write_file_atomically(folder / ROOT_KEY_FILE_NAME, root_file.read_bytes())
        config = directory / "auditor.yaml"
        write_file_atomically(config, _CONFIG.format(folder=folder, key_file=key_file, sources=sources).encode())
    before = "" if sources else "name feed and sidecars there, then "
    typer.echo(f"wrote {config}: {before}run consentry-auditor fetch -c {config}")


def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, defaults included, and check them."""
    from hosting.settings import render_settings

    typer.echo(render_settings(load(config)), nl=False)


def _describe_sources(feed: str | None, sidecars: list[str]) -> str:
    """What the options say, as settings; or the end of the command with what is wrong with it."""
    import yaml
    from pydantic import ValidationError

    from auditor.config import AuditorSettings

    settings: dict[str, object] = {} if feed is None else {"feed": {"address": feed}}
    named = [option.partition("=") for option in sidecars]
    if named:
        settings["sidecars"] = [{"sidecar_id": sidecar_id, "address": address} for sidecar_id, _, address in named]
    try:
        AuditorSettings.model_validate(settings)
    except ValidationError:
        fail("--feed or --sidecar: expected unix:///path, and NAME=unix:///path with each name once")
    return yaml.safe_dump(settings, sort_keys=False) if settings else ""


def _create_key(name: str, path: Path) -> None:
    from pydantic import TypeAdapter, ValidationError

    from auditor.keys import create_auditor_key, write_public_key
    from hosting.settings.server import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        fail("NAME: letters, digits, '.', '_' and '-' only, at most 63")
    with checking():
        write_public_key(path, create_auditor_key(path, name))
