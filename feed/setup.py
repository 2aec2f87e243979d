"""`consentry-feed init`: keys, a trust file, development certificates and settings for a feed and its first sidecar.

What it makes is enough to run both on one host. Each file says what to put in its place for production.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from consent.eventlog.keys import (
    KeyKind,
    SigningKey,
    VerifierKey,
    format_signing_key,
    format_verifier_key,
    generate_signing_key,
)
from consent.eventlog.trust import Trust, TrustedKey, seal_trust
from feed.errors import FeedError
from feed.signing.key_store import FeedKeys, create_keys, load_keys
from hosting.development_ca import create_development_ca, development_files, issue_certificate
from hosting.key_files import create_key_file, write_file_atomically
from hosting.locks import create_directory

CACHE_KEY_USE = "cache-kek"
"""Of the sidecar's key file, as `sidecar.cache` reads it."""


TRUST_DOMAIN = "consentry.example"
"""In the names of the certificates made here."""


class FolderNotEmpty(FeedError):
    """`init` makes a new folder and never writes into one that holds something. Expected: choose another."""

    reason = "FOLDER_NOT_EMPTY"


@dataclass(frozen=True, slots=True)
class Installation:
    """What to set up.

    Attributes:
        directory: New folder for everything.
        tenant: Name of the tenant.
        origin: Name of the log.
        sidecar_id: Name of the first sidecar.
        port: Port of 127.0.0.1 on which the feed serves sidecars.
    """

    directory: Path
    tenant: str
    origin: str
    sidecar_id: str
    port: int


def set_up(installation: Installation) -> None:
    """Create the folder with everything in it.

    Raises:
        FolderNotEmpty: There is something in it already.
        HostingError, EventLogError: A file cannot be written, or a name cannot name a key.
    """
    directory = installation.directory
    if directory.exists() and any(directory.iterdir()):
        raise FolderNotEmpty(f"{directory}: is not empty; nothing was written")
    for name in ("feed", "feed/high-water", "sidecar", "sidecar/high-water", "trust", "tls", "run"):
        create_directory(directory / name, 0o700)
    create_keys(directory / "feed" / "keys")
    keys = load_keys(directory / "feed" / "keys", installation.origin)
    _create_trust(directory / "trust", keys, installation)
    _create_certificates(directory / "tls", installation.sidecar_id)
    create_key_file(directory / "sidecar" / "cache.key", os.urandom(32), use=CACHE_KEY_USE)
    _write_settings(directory / "feed" / "feed.yaml", "the feed", _feed_settings(installation))
    _write_settings(directory / "sidecar" / "sidecar.yaml", "the sidecar", _sidecar_settings(installation))


def _create_trust(directory: Path, keys: FeedKeys, installation: Installation) -> None:
    root_key = generate_signing_key(f"{installation.origin}/root", KeyKind.LOG, os.urandom(32))
    trust = Trust(
        tenant=installation.tenant,
        origin=installation.origin,
        log_keys=(_trusted(keys.log_key),),
        cosigner_keys=(_trusted(keys.cosigner_key),),
    )
    write_file_atomically(directory / "root.key", f"{format_signing_key(root_key)}\n".encode())
    write_file_atomically(directory / "root.pub", f"{format_verifier_key(root_key.verifier_key)}\n".encode(), 0o644)
    # For whoever checks receipts: these two keys are all that it takes.
    for name, key in (("log", keys.log_key), ("cosigner", keys.cosigner_key)):
        write_file_atomically(directory / f"{name}.pub", f"{format_verifier_key(key.verifier_key)}\n".encode(), 0o644)
    write_file_atomically(directory / "trust.note", seal_trust(trust, root_key), 0o644)


def _trusted(key: SigningKey) -> TrustedKey:
    verifier_key: VerifierKey = key.verifier_key
    return TrustedKey(verifier_key)


def _create_certificates(directory: Path, sidecar_id: str) -> None:
    create_development_ca(directory)
    issue_certificate(directory, "feed", san_dns=("localhost",), san_ips=("127.0.0.1",))
    issue_certificate(directory, "sidecar", san_uris=(f"spiffe://{TRUST_DOMAIN}/sidecar/{sidecar_id}",))


def _tls(directory: Path, name: str) -> dict[str, str]:
    files, ca = development_files(directory, name), development_files(directory)
    return {"cert_file": str(files.cert_file), "key_file": str(files.key_file), "ca_file": str(ca.cert_file)}


def _socket(installation: Installation, name: str) -> str:
    return f"unix://{installation.directory / 'run' / name}.sock"


def _feed_settings(installation: Installation) -> dict[str, object]:
    directory = installation.directory
    return {
        "tenant": installation.tenant,
        "origin": installation.origin,
        "event_log": {
            "directory": str(directory / "feed" / "log"),
            "keys_directory": str(directory / "feed" / "keys"),
            "high_water_file": str(directory / "feed" / "high-water" / "log-mark"),
        },
        "sync": {
            "address": f"127.0.0.1:{installation.port}",
            "tls": _tls(directory / "tls", "feed"),
            "trust_domain": TRUST_DOMAIN,
        },
        "sources": [
            {"name": "web", "address": _socket(installation, "intake-web"), "max_proof": 1, "max_assurance": 1},
            {
                "name": "accounts",
                "address": _socket(installation, "intake-accounts"),
                "max_proof": 3,
                "max_assurance": 2,
            },
        ],
        "admin_address": _socket(installation, "feed-admin"),
        "import_address": _socket(installation, "feed-import"),
        "log": {"format": "text"},
    }


def _sidecar_settings(installation: Installation) -> dict[str, object]:
    directory, home = installation.directory, installation.directory / "sidecar"
    return {
        "sidecar_id": installation.sidecar_id,
        "trust": {
            "file": str(directory / "trust" / "trust.note"),
            "root_key_file": str(directory / "trust" / "root.pub"),
        },
        "feed": {"address": f"127.0.0.1:{installation.port}", "tls": _tls(directory / "tls", "sidecar")},
        "cache": {
            "directory": str(home / "cache"),
            "key_files": [str(home / "cache.key")],
            "high_water_file": str(home / "high-water" / "mark"),
        },
        "journal": {"directory": str(home / "journal")},
        "listeners": [{"address": _socket(installation, "sidecar"), "callers": [{"name": "app", "detail": "full"}]}],
        "admin_address": _socket(installation, "sidecar-admin"),
        "log": {"format": "text"},
    }


def _write_settings(path: Path, of_what: str, settings: dict[str, object]) -> None:
    head = (
        f"# Settings of {of_what}, made by `consentry-feed init` for development on one host.\n"
        "# For production: certificates of your own authority, keys on another volume, one listener per service.\n"
        "# Every setting: docs/configuration.md.\n"
    )
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
    write_file_atomically(path, f"{head}{text}".encode(), 0o600)
