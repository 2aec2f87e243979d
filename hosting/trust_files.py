"""Files that say whom to believe, and the private keys of those who sign for single events."""

from pathlib import Path
from typing import Final

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, SigningKey, parse_signing_key, parse_verifier_key
from consent.eventlog.trust import Trust, open_trust
from hosting.errors import KeyFileError, UnusableStartFile
from hosting.key_files import read_private_file

_MAX_SIGNING_KEY_BYTES: Final = 4096


def load_trust(trust_file: Path, root_key_file: Path) -> Trust:
    """Read the trust file and verify it with the root key.

    Raises:
        UnusableStartFile: A file is missing, malformed or signed by somebody else; the text names it.
    """
    try:
        root_key = parse_verifier_key(read_start_file(root_key_file).decode("utf-8", "replace").strip())
    except EventLogError as error:
        raise UnusableStartFile(f"{root_key_file}: {error.reason}: {error}") from None
    try:
        return open_trust(read_start_file(trust_file), root_key)
    except EventLogError as error:
        raise UnusableStartFile(f"{trust_file}: {error.reason}: {error}") from None


def read_start_file(path: Path) -> bytes:
    """Read a file that a start needs and that holds no secret; raises UnusableStartFile."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableStartFile(f"{path}: {error.strerror or 'cannot be read'}") from None


def read_signing_key(path: Path, kind: KeyKind) -> SigningKey:
    """Read the private key of a source or an approver: one line `PRIVATE+KEY+...`, which names its owner and its kind.

    Raises:
        KeyFileMissing: No such file.
        KeyFileError: Not ours alone to read, no private key, or one of another kind.
    """
    text = read_private_file(path, max_bytes=_MAX_SIGNING_KEY_BYTES)
    try:
        key = parse_signing_key(text.decode("ascii", "replace").removesuffix("\n"))
    except EventLogError as error:
        # The parser's texts name what is wrong and never what the file holds.
        raise KeyFileError(f"{path}: {error}") from None
    finally:
        text[:] = bytes(len(text))
    if key.kind is not kind:
        raise KeyFileError(f"{path}: holds a key of kind {key.kind.name}, one of kind {kind.name} is needed")
    return key
