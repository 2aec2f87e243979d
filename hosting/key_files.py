"""Files that hold secrets: strict permissions, one line that names the use, writes that survive a crash.

A key file is text of two lines, so that a key of another use is refused before it is used::

    consentry-key v1 cache-kek
    <standard base64 of the key>
"""

import base64
import binascii
import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from hosting.errors import KeyFileError, KeyFileMissing

_HEADER: Final = "consentry-key v1 "
_USE: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_KEY_FILE_BYTES: Final = 4096


def format_key(key: bytes | bytearray, use: str) -> bytes:
    """Return the bytes of a key file.

    Args:
        key: The secret key.
        use: What the key is for, lower-case words joined by ``-``, such as ``cache-kek``.
    """
    _verify_use(use)
    return f"{_HEADER}{use}\n".encode("ascii") + base64.b64encode(key) + b"\n"


def parse_key(key_file_bytes: bytes | bytearray, *, use: str, length_bytes: int = 32) -> bytearray:
    """Return the key that a key file holds.

    Raises:
        KeyFileError: Another format, another use, or another length; the text never shows what the file holds.
    """
    _verify_use(use)
    header, newline, body = bytes(key_file_bytes).removesuffix(b"\n").partition(b"\n")
    try:
        found_use = header.decode("ascii").removeprefix(_HEADER)
        key = bytearray(binascii.a2b_base64(body, strict_mode=True))
    except (UnicodeDecodeError, binascii.Error):
        raise KeyFileError(_expected(use)) from None
    # One text for each key: base64 leaves bits of its last character without a meaning.
    is_canonical = base64.b64encode(key) == body
    is_known = header.startswith(_HEADER.encode("ascii")) and _USE.fullmatch(found_use) is not None
    if not newline or not is_known or not is_canonical:
        raise KeyFileError(_expected(use))
    if found_use != use:
        raise KeyFileError(f"holds a key for {found_use}, a key for {use} is needed")
    if len(key) != length_bytes:
        raise KeyFileError(f"holds a key of {len(key)} bytes, {length_bytes} are needed")
    return key


def read_key_file(path: Path, *, use: str, length_bytes: int = 32) -> bytearray:
    """Return the key in the file at ``path``; the caller may overwrite it with zeros after use.

    Raises:
        KeyFileMissing: No such file.
        KeyFileError: Not ours alone to read, not a key file, a key of another use or length.
    """
    text = read_private_file(path, max_bytes=_MAX_KEY_FILE_BYTES)
    try:
        return parse_key(text, use=use, length_bytes=length_bytes)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
    finally:
        text[:] = bytes(len(text))


def create_key_file(path: Path, key: bytes | bytearray, *, use: str) -> None:
    """Write a new key file that only its owner can read, and return once it is on the disk.

    Raises:
        KeyFileError: The file exists (a key is never overwritten), or it cannot be written.
    """
    key_file_bytes = format_key(key, use)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be created: {error.strerror}") from None
    try:
        _write_durably(descriptor, key_file_bytes, mode=0o600)
        _sync_directory(path.parent)
    except OSError as error:
        # A crash here leaves a short file, which read_key_file refuses by name. Nothing is sealed under the key yet,
        # so whoever started the process deletes the file and starts again; we do the same for a plain error.
        with contextlib.suppress(OSError):
            path.unlink()
        raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from None


def read_private_file(path: Path, *, max_bytes: int) -> bytearray:
    """Return the content of a file that holds a secret.

    Links are followed, since secrets are mounted through links; the checks are made on the file that was opened.

    Raises:
        KeyFileMissing: No such file.
        KeyFileError: Not a regular file, owned by somebody other than us or root, open to its group or to others,
            unreadable, or longer than ``max_bytes``.
    """
    try:
        # Opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileMissing(f"{path}: no such file") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be opened: {error.strerror}") from None
    try:
        _verify_private(path, os.fstat(descriptor))
        content = bytearray(max_bytes + 1)
        length = 0
        while count := os.readv(descriptor, [memoryview(content)[length:]]):
            length += count
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if length > max_bytes:
        raise KeyFileError(f"{path}: longer than {max_bytes} bytes")
    return content[:length]


def write_file_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at ``path`` so that a reader, or the next start after a crash, sees all of it or none.

    Args:
        path: The file; its directory must exist.
        data: The whole new content.
        mode: Permission bits, set whatever the umask is.

    Raises:
        OSError: The disk is full, or the directory cannot be written; the old file is untouched.
    """
    # A crash leaves at most a file of this shape beside the old one; it is never read, and removing it is safe.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _write_durably(descriptor, data, mode=mode)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _verify_use(use: str) -> None:
    if not _USE.fullmatch(use):
        raise ValueError("a key's use is lower-case words joined by '-'")


def _expected(use: str) -> str:
    return f"not a key file; expected a line '{_HEADER}{use}', then the key in base64"


def _verify_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path}: not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"{path}: open to its group or to others (mode {mode:04o}); make it 0600 or 0400")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(f"{path}: owned by another user")


def _write_durably(descriptor: int, data: bytes, *, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
