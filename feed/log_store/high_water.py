"""The high-water mark: how far the log once was, kept in another place than its database.

A lower bound, written a moment after the commits that it speaks of. A database that does not hold the mark's entries, or holds others, is
an older one or another one, and the feed must not go on from there: sidecars and requesters hold what it has lost.
"""

import hmac
import struct
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from consent.eventlog.merkle import HASH_BYTES
from feed.errors import HighWaterUnreadable
from feed.log_store.sealing import derive_key
from hosting.errors import DirectoryUnusable
from hosting.key_files import write_file_atomically
from hosting.locks import create_directory

_MAGIC: Final = b"consentry-mark/1"
_BODY: Final = struct.Struct(f">{len(_MAGIC)}sQ{HASH_BYTES}s")
_FILE_BYTES: Final = _BODY.size + sha256().digest_size


class Mark(NamedTuple):
    """A log that was committed.

    Attributes:
        size: Number of entries.
        root_hash: Root over them, 32 bytes.
    """

    size: int
    root_hash: bytes


class MarkFile:
    """A mark in a file, authenticated with a key that derives from the feed's KEK.

    Args:
        path: Of the file; its directory is created where it is missing.
        kek: 32 bytes.
        context: Log and tenant.
        use: What the mark says, so that one is not taken for another.
    """

    def __init__(self, path: Path, kek: bytes, context: bytes, use: str = "high-water") -> None:
        self.path = path
        self._key = derive_key(kek, f"{use}/v1")
        self._context = context

    def read(self) -> Mark | None:
        """The mark, None where there is no file.

        Raises:
            HighWaterUnreadable: The file cannot be read, was changed, or belongs to another log or key.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HighWaterUnreadable(f"{self.path}: cannot be read: {error.strerror}") from None
        body, tag = content[: _BODY.size], content[_BODY.size :]
        if len(content) != _FILE_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            raise HighWaterUnreadable(f"{self.path}: not the mark of this log under this feed-kek")
        _, size, root_hash = _BODY.unpack(body)
        return Mark(size, root_hash)

    def write(self, mark: Mark) -> None:
        """Keep a mark durably; the old one stays where that fails.

        Raises:
            HighWaterUnreadable: It cannot be written.
        """
        body = _BODY.pack(_MAGIC, mark.size, mark.root_hash)
        try:
            create_directory(self.path.parent, 0o700)
            write_file_atomically(self.path, body + self._tag(body))
        except OSError as error:
            raise HighWaterUnreadable(f"{self.path}: cannot be written: {error.strerror}") from None
        except DirectoryUnusable as error:
            raise HighWaterUnreadable(str(error)) from None

    def remove(self) -> None:
        """Take the mark away; without effect where there is none.

        Raises:
            HighWaterUnreadable: It cannot be removed.
        """
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise HighWaterUnreadable(f"{self.path}: cannot be removed: {error.strerror}") from None

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._context + body, "sha256")
