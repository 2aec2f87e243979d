"""The feed's key files: made once by `consentry-feed init`, read at each start, never in the log's database or its backups."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent.eventlog.keys import (
    KeyKind,
    SigningKey,
    VerifierKey,
    format_verifier_key,
    generate_signing_key,
    parse_verifier_key,
)
from consent.key_ring import KeyRing
from hosting.errors import KeyFileError
from hosting.key_files import create_key_file, read_key_file, write_file_atomically
from hosting.locks import create_directory

KEY_BYTES: Final = 32
KEK_FILE: Final = "feed-kek.key"
#: File and use of each key; the use stands in the file, so that one cannot be taken for another.
KEY_FILES: Final = {
    "log.key": "log-signing",
    "cosigner.key": "cosigner-signing",
    "subject-0.key": "subject-epoch-0",
    "audit-master.key": "audit-master",
    KEK_FILE: "feed-kek",
}
#: Signing keys that can rotate: while the next one's file lies beside the key, both sign.
ROTATING: Final = ("log", "cosigner")
PREVIOUS_LOG_KEYS: Final = "log-previous.pub"

#: A sidecar whose clock is behind, or that is cut off for a month, still finds the key of its day.
AUDIT_DAYS_BEFORE: Final = 1
AUDIT_DAYS_AHEAD: Final = 35

_AUDIT_INFO: Final = b"consentry/audit-day/v1"


@dataclass(frozen=True, slots=True, repr=False)
class FeedKeys:
    """Every secret of one tenant's feed.

    Attributes:
        log_key: Makes a checkpoint the log's; named after the log.
        cosigner_key: Makes it the newest at a time; a separate key, so that freshness can be moved to another machine.
        subject_key: 32 bytes, turns identifiers into tokens (key epoch 0).
        audit_master: 32 bytes, the privacy office's; day keys derive from it.
        kek: 32 bytes, wraps the data keys of the feed's files.
        later_subject_keys: 32 bytes each, of the key epochs from 1 on; the log says which of them have begun.
        next_keys: What log and cosigner rotate to: they sign too, so that it does not matter when a trust file that knows them arrives.
        previous_log_keys: Whose signatures the database may still hold; nobody has their private halves any more.
    """

    log_key: SigningKey
    cosigner_key: SigningKey
    subject_key: bytes
    audit_master: bytes
    kek: bytes
    later_subject_keys: tuple[bytes, ...] = ()
    next_keys: tuple[SigningKey, ...] = ()
    previous_log_keys: tuple[VerifierKey, ...] = ()

    @property
    def log_verifier_keys(self) -> tuple[VerifierKey, ...]:
        """Public keys by one of which a head that is stored may be signed."""
        keys = (self.log_key, *self.next_keys)
        signing = tuple(key.verifier_key for key in keys if key.kind is KeyKind.LOG)
        return (*signing, *self.previous_log_keys)

    def __repr__(self) -> str:
        """Whose keys, and none of them."""
        return f"FeedKeys({self.log_key.name!r})"

    def key_ring(self, today_day: int) -> KeyRing:
        """What sidecars are given on a day, counted from 1970-01-01 UTC."""
        days = range(max(0, today_day - AUDIT_DAYS_BEFORE), today_day + AUDIT_DAYS_AHEAD + 1)
        audit_keys = tuple((day, audit_day_key(self.audit_master, day)) for day in days)
        return KeyRing((self.subject_key,), audit_keys)


def audit_day_key(audit_master: bytes, day: int) -> bytes:
    """The 32-byte key of a day's audit pseudonyms: HKDF-SHA256 (RFC 5869) of the master, the day in `info`."""
    info = _AUDIT_INFO + day.to_bytes(8, "big")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(audit_master)


def create_keys(directory: Path) -> None:
    """Make every key file of a new feed, for its owner alone to read.

    Raises:
        KeyFileError: One of them exists (a key is never overwritten), or cannot be written.
        DirectoryUnusable: The directory cannot be created.
    """
    create_directory(directory, 0o700)
    for name in KEY_FILES:
        if (directory / name).exists():
            raise KeyFileError(f"{directory / name}: exists already; a key is never overwritten")
    for name, use in KEY_FILES.items():
        create_key_file(directory / name, os.urandom(KEY_BYTES), use=use)


def load_keys(directory: Path, origin: str) -> FeedKeys:
    """Read every key of a feed.

    Args:
        directory: Where `create_keys` put them.
        origin: Name of the log, and so of its key; the cosigner's is `<origin>/cosigner`.

    Raises:
        KeyFileMissing: One is not there.
        KeyFileError: One is not ours alone to read, or no key of its use.
        MalformedKey: The origin cannot name a key.
    """
    log_seed, cosigner_seed, subject_key, audit_master, kek = (
        bytes(read_key_file(directory / name, use=use)) for name, use in KEY_FILES.items()
    )
    later_subject_keys: list[bytes] = []
    while (path := _subject_key_path(directory, len(later_subject_keys) + 1)).exists():
        later_subject_keys.append(bytes(read_key_file(path, use=_subject_key_use(len(later_subject_keys) + 1))))
    return FeedKeys(
        log_key=_make_signing_key(origin, "log", log_seed),
        cosigner_key=_make_signing_key(origin, "cosigner", cosigner_seed),
        subject_key=subject_key,
        audit_master=audit_master,
        kek=kek,
        later_subject_keys=tuple(later_subject_keys),
        next_keys=tuple(
            _make_signing_key(origin, role, _read_seed(path, role))
            for role in ROTATING
            if (path := directory / next_file(role)).exists()
        ),
        previous_log_keys=_read_previous(directory),
    )


def next_file(role: str) -> str:
    """Name of the file of the key that `role` rotates to."""
    return f"{role}-next.key"


def prepare_rotation(directory: Path, origin: str, role: str) -> SigningKey:
    """Make the key that `role` rotates to; from the feed's next start on both sign.

    Raises:
        KeyFileError: It is there already, or cannot be written.
    """
    seed = os.urandom(KEY_BYTES)
    create_key_file(directory / next_file(role), seed, use=KEY_FILES[f"{role}.key"])
    return _make_signing_key(origin, role, seed)


def finish_rotation(directory: Path, origin: str, role: str) -> tuple[SigningKey, SigningKey]:
    """Let the next key take the place of the old one, whose file is destroyed.

    Returns:
        The old key and the new one.

    Raises:
        KeyFileMissing: No rotation was begun.
        KeyFileError: The files cannot be written.
    """
    path = directory / next_file(role)
    old = _make_signing_key(origin, role, _read_seed(directory / f"{role}.key", role))
    new = _make_signing_key(origin, role, _read_seed(path, role))
    try:
        if role == "log":
            lines = [format_verifier_key(key) for key in (*_read_previous(directory), old.verifier_key)]
            write_file_atomically(directory / PREVIOUS_LOG_KEYS, "".join(f"{line}\n" for line in lines).encode())
        # One step: after a crash there is either the rotation, still to be finished, or its end.
        path.replace(directory / f"{role}.key")
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be moved: {error.strerror}") from None
    return old, new


def _read_previous(directory: Path) -> tuple[VerifierKey, ...]:
    path = directory / PREVIOUS_LOG_KEYS
    try:
        return tuple(parse_verifier_key(line) for line in path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError):
        raise KeyFileError(f"{path}: cannot be read") from None


def _read_seed(path: Path, role: str) -> bytes:
    return bytes(read_key_file(path, use=KEY_FILES[f"{role}.key"]))


def _make_signing_key(origin: str, role: str, seed: bytes) -> SigningKey:
    if role == "log":
        return generate_signing_key(origin, KeyKind.LOG, seed)
    return generate_signing_key(f"{origin}/{role}", KeyKind.COSIGNER, seed)


def prepare_subject_key(directory: Path, epoch: int) -> bytes:
    """The subject key of an epoch that is about to begin, from 1 on: made here, or by somebody else before.

    A file that is there already was left by an attempt that did not reach the log, or mounted where the feed cannot write.

    Raises:
        KeyFileError: It cannot be made, or is no key of this use that is ours alone to read.
    """
    path, use = _subject_key_path(directory, epoch), _subject_key_use(epoch)
    if not path.exists():
        create_key_file(path, os.urandom(KEY_BYTES), use=use)
    return bytes(read_key_file(path, use=use))


def _subject_key_path(directory: Path, epoch: int) -> Path:
    return directory / f"subject-{epoch}.key"


def _subject_key_use(epoch: int) -> str:
    return f"subject-epoch-{epoch}"
