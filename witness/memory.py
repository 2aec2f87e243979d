"""What was cosigned last of each log, kept so that no crash can make the witness cosign a second history."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from consent.eventlog.checkpoint import Checkpoint
from consent.eventlog.merkle import HASH_BYTES
from consent.eventlog.note_text import decode_base64, encode_base64
from consent.eventlog.witness import SeenTree
from hosting.key_files import write_file_atomically
from hosting.locks import create_directory
from witness.errors import MemoryUnusable

FILE_NAME: Final = "cosigned.json"
EVIDENCE_FOLDER: Final = "evidence"
MAX_EVIDENCE_FILES: Final = 1_000
_FORMAT: Final = "consentry/witness-memory/v1"


class Memory:
    """The trees that were cosigned, in one small file that is replaced as a whole.

    Args:
        directory: Where the file lies; the caller holds its lock.
        trees: By origin.
    """

    def __init__(self, directory: Path, trees: Mapping[str, SeenTree]) -> None:
        self._directory = directory
        self._trees = dict(trees)

    @property
    def trees(self) -> Mapping[str, SeenTree]:
        """The largest tree of each log that was cosigned, by its origin."""
        return self._trees

    def keep(self, checkpoint: Checkpoint) -> None:
        """Take note of a checkpoint; it is on the disk when this returns, and only then may it be cosigned.

        Raises:
            MemoryUnusable: The disk is full or broken; what was known before still holds.
        """
        trees = {**self._trees, checkpoint.origin: SeenTree(checkpoint.size, checkpoint.root_hash)}
        _write(self._directory, trees)
        self._trees = trees

    def keep_evidence(self, body: bytes) -> Path | None:
        """Keep a request that shows two histories: the log has signed it. Returns None where there is enough already."""
        folder = self._directory / EVIDENCE_FOLDER
        create_directory(folder, 0o700)
        path = folder / f"{sha256(body).hexdigest()}.request"
        if not path.exists() and len(list(folder.iterdir())) >= MAX_EVIDENCE_FILES:
            return None
        try:
            write_file_atomically(path, body)
        except OSError as error:
            raise MemoryUnusable(f"{folder}: cannot be written: {error.strerror}") from None
        return path


def create_memory(directory: Path) -> None:
    """Make the file of a witness that has cosigned nothing yet.

    Raises:
        MemoryUnusable: There is one already, or it cannot be written.
    """
    if (directory / FILE_NAME).exists():
        raise MemoryUnusable(f"{directory / FILE_NAME}: exists already")
    _write(directory, {})


def load_memory(directory: Path) -> Memory:
    """Read what was cosigned.

    Raises:
        MemoryUnusable: The file is missing or damaged.
    """
    path = directory / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        trees = {origin: _read_tree(tree) for origin, tree in content["logs"].items()}
    except FileNotFoundError:
        raise MemoryUnusable(
            f"{path}: is missing. A witness that forgot what it cosigned could cosign a second history: put the file back,"
            " or retire the key and make a new witness with `consentry-witness init`"
        ) from None
    except OSError as error:
        raise MemoryUnusable(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MemoryUnusable(f"{path}: damaged") from None
    if content.get("format") != _FORMAT:
        raise MemoryUnusable(f"{path}: of another version")
    return Memory(directory, trees)


def _read_tree(tree: Any) -> SeenTree:
    root_hash = decode_base64(tree["root_hash"])
    if type(tree["size"]) is not int or tree["size"] < 0 or root_hash is None or len(root_hash) != HASH_BYTES:
        raise ValueError("a tree has another form")
    return SeenTree(tree["size"], root_hash)


def _write(directory: Path, trees: Mapping[str, SeenTree]) -> None:
    logs = {origin: {"size": tree.size, "root_hash": encode_base64(tree.root_hash)} for origin, tree in trees.items()}
    content = json.dumps({"format": _FORMAT, "logs": logs}, ensure_ascii=False, indent=1, sort_keys=True)
    try:
        write_file_atomically(directory / FILE_NAME, f"{content}\n".encode())
    except OSError as error:
        raise MemoryUnusable(f"{directory / FILE_NAME}: cannot be written: {error.strerror}") from None
