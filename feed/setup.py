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
from consent.eventlog.trust import SourceRights, Trust, TrustedKey, seal_trust
from feed.errors import FeedError
from feed.signing.enrolment_tokens import EnrolmentToken, EnrolmentTokens
from feed.signing.key_store import FeedKeys, create_keys, load_keys
from hosting.clock import SystemClock
from hosting.development_ca import create_development_ca, development_files, issue_certificate
from hosting.key_files import create_key_file, write_file_atomically
from hosting.locks import create_directory

CACHE_KEY_USE = "cache-kek"
"""Of the sidecar's key file, as `sidecar.cache` reads it."""


APPROVERS = ("approver-1", "approver-2")
"""Names of the approvers' keys made here, and of their files."""
#: Highest proof and assurance of each source made here.
_SOURCE_LIMITS = {"web": (1, 1), "accounts": (3, 2), "import": (0, 1)}

TRUST_DOMAIN = "consentry.example"
"""In the names of the certificates made here."""

FIRST_TOKEN_DAYS = 365
"""How long the first sidecar's enrolment token is good for; it is used up by the first enrolment anyhow."""


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
    _create_trust(directory, keys, installation)
    _create_certificates(directory / "tls", installation.sidecar_id)
    create_key_file(directory / "sidecar" / "cache.key", os.urandom(32), use=CACHE_KEY_USE)
    create_enrolment_token(
        directory / "sidecar" / "enrolment.token", keys, installation.origin, installation.sidecar_id
    )
    _write_settings(directory / "feed" / "feed.yaml", "the feed", _feed_settings(installation))
    _write_settings(directory / "sidecar" / "sidecar.yaml", "the sidecar", _sidecar_settings(installation))


def create_enrolment_token(path: Path, keys: FeedKeys, origin: str, sidecar_id: str) -> None:
    """Write a token with which a sidecar that the log has never heard of may enrol.

    Raises:
        OSError: The file cannot be written.
    """
    expires_at_ms = SystemClock().now_ms() + FIRST_TOKEN_DAYS * 86_400_000
    token = EnrolmentTokens(keys.kek, origin).issue(EnrolmentToken(sidecar_id, 0, expires_at_ms))
    write_file_atomically(path, f"{token}\n".encode("ascii"), 0o600)


def _create_trust(directory: Path, keys: FeedKeys, installation: Installation) -> None:
    """Sign a trust file, and make the keys of those who have none yet."""
    root_key = _create_signing_key(directory / "trust" / "root.key", f"{installation.origin}/root", KeyKind.LOG)
    sources = tuple(
        TrustedKey(
            _create_signing_key(
                _source_key_file(installation, name), f"{installation.origin}/{name}", KeyKind.SOURCE
            ).verifier_key,
            rights=SourceRights(name, max_proof=max_proof, max_assurance=max_assurance),
        )
        for name, (max_proof, max_assurance) in _SOURCE_LIMITS.items()
    )
    approvers = tuple(
        _trusted(
            _create_signing_key(directory / "trust" / f"{name}.key", f"{installation.origin}/{name}", KeyKind.APPROVER)
        )
        for name in APPROVERS
    )
    trust = Trust(
        tenant=installation.tenant,
        origin=installation.origin,
        log_keys=(_trusted(keys.log_key),),
        cosigner_keys=(_trusted(keys.cosigner_key),),
        source_keys=sources,
        approver_keys=approvers,
    )
    root_public = f"{format_verifier_key(root_key.verifier_key)}\n"
    write_file_atomically(directory / "trust" / "root.pub", root_public.encode(), 0o644)
    # For whoever checks receipts: these two keys are all that it takes.
    for name, key in (("log", keys.log_key), ("cosigner", keys.cosigner_key)):
        public_key = f"{format_verifier_key(key.verifier_key)}\n"
        write_file_atomically(directory / "trust" / f"{name}.pub", public_key.encode(), 0o644)
    write_file_atomically(directory / "trust" / "trust.note", seal_trust(trust, root_key), 0o644)


def _create_signing_key(path: Path, name: str, kind: KeyKind) -> SigningKey:
    key = generate_signing_key(name, kind, os.urandom(32))
    write_file_atomically(path, f"{format_signing_key(key)}\n".encode())
    return key


def _source_key_file(installation: Installation, name: str) -> Path:
    return installation.directory / "feed" / "keys" / f"source-{name}.key"


def _trust_files(installation: Installation) -> dict[str, str]:
    directory = installation.directory / "trust"
    return {"file": str(directory / "trust.note"), "root_key_file": str(directory / "root.pub")}


def _source(installation: Installation, name: str) -> dict[str, object]:
    max_proof, max_assurance = _SOURCE_LIMITS[name]
    return {
        "name": name,
        "address": _socket(installation, f"intake-{name}"),
        "max_proof": max_proof,
        "max_assurance": max_assurance,
        "signing_key_file": str(_source_key_file(installation, name)),
    }


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
        "trust": _trust_files(installation),
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
        "sources": [_source(installation, "web"), _source(installation, "accounts")],
        "admin_address": _socket(installation, "feed-admin"),
        "import_address": _socket(installation, "feed-import"),
        "import_signing_key_file": str(_source_key_file(installation, "import")),
        "audit": {"address": _socket(installation, "feed-audit")},
        "log": {"format": "text"},
    }


def _sidecar_settings(installation: Installation) -> dict[str, object]:
    directory, home = installation.directory, installation.directory / "sidecar"
    return {
        "sidecar_id": installation.sidecar_id,
        "trust": _trust_files(installation),
        "feed": {"address": f"127.0.0.1:{installation.port}", "tls": _tls(directory / "tls", "sidecar")},
        "cache": {
            "directory": str(home / "cache"),
            "key_files": [str(home / "cache.key")],
            "high_water_file": str(home / "high-water" / "mark"),
        },
        "enrolment_token_file": str(home / "enrolment.token"),
        "journal": {"directory": str(home / "journal")},
        "listeners": [{"address": _socket(installation, "sidecar"), "callers": [{"name": "app", "detail": "full"}]}],
        "admin_address": _socket(installation, "sidecar-admin"),
        "audit": {"address": _socket(installation, "sidecar-audit")},
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
