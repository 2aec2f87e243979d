"""Receipts as files: for their owner alone, and never over another file."""

import os
from pathlib import Path

from consentry_client.cli.problem import Problem


def require_new_file(option: str, path: Path) -> None:
    """Refuses a place that is taken, before anything is asked of anybody.

    Raises:
        Problem: There is something.
    """
    if path.exists() or path.is_symlink():
        raise Problem("FILE_EXISTS", f"{option}: the file is there already; nothing was done")
    if not path.parent.is_dir():
        raise Problem("FOLDER_MISSING", f"{option}: its folder is not there; nothing was done")


def write_receipt(option: str, path: Path, receipt_bytes: bytes) -> None:
    """Writes a receipt that its owner alone can read: it holds the person's token.

    Raises:
        Problem: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(receipt_bytes)
    except OSError as error:
        raise Problem("FILE_NOT_WRITTEN", f"{option}: cannot be written ({error.strerror})") from None
