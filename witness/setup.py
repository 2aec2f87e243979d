"""`consentry-witness init`."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from consent.eventlog.keys import (
    KeyKind,
    format_signing_key,
    format_verifier_key,
    generate_signing_key,
    parse_verifier_key,
)
from hosting.key_files import write_file_atomically
from hosting.locks import create_directory
from witness.errors import WitnessError
from witness.memory import create_memory


class FolderNotEmpty(WitnessError):
    """`init` makes a new folder and never writes into one that holds something. Expected: choose another."""

    reason = "FOLDER_NOT_EMPTY"


def set_up(directory: Path, name: str, origin: str, log_keys: Sequence[str], port: int) -> str:
    """Create the folder with everything in it.

    Returns:
        The witness's public key in its text form.

    Raises:
        FolderNotEmpty: There is something in it already.
        HostingError, EventLogError: A file cannot be written, or a name or key has the wrong form.
    """
    if directory.exists() and any(directory.iterdir()):
        raise FolderNotEmpty(f"{directory}: is not empty; nothing was written")
    for log_key in log_keys:
        parse_verifier_key(log_key)
    key = generate_signing_key(name, KeyKind.COSIGNER, os.urandom(32))
    public_key = format_verifier_key(key.verifier_key)
    create_directory(directory / "memory", 0o700)
    write_file_atomically(directory / "witness.key", f"{format_signing_key(key)}\n".encode())
    write_file_atomically(directory / "witness.pub", f"{public_key}\n".encode(), 0o644)
    create_memory(directory / "memory")
    settings = {
        "key_file": str(directory / "witness.key"),
        "directory": str(directory / "memory"),
        "address": f"127.0.0.1:{port}",
        "logs": [{"origin": origin, "keys": list(log_keys)}] if log_keys else [],
        "log": {"format": "text"},
    }
    head = "# Settings of the witness, made by `consentry-witness init`. Every setting: docs/configuration.md.\n"
    write_file_atomically(directory / "witness.yaml", f"{head}{yaml.safe_dump(settings, sort_keys=False)}".encode())
    return public_key
