"""A program's own certificate with its key and the authorities it trusts: files that are replaced while the program runs.

They are read whenever a connection begins, never by a watching thread. What cannot be used is refused by name and what was in
use before stays in use, so that a file caught half written costs nothing.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from hosting.clock import Clock, SystemClock
from hosting.errors import KeyFileError, TlsError
from hosting.key_files import read_private_file

WATCH_PERIOD_SECONDS: Final = 60.0

_LOGGER: Final = logging.getLogger(__name__)
_MAX_PEM_BYTES: Final = 1 << 20
_MS_PER_DAY: Final = 86_400_000
# A certificate that lives for hours is renewed within hours: the days of warning that suit a year are too many for it.
_WARNED_SHARE: Final = 3


class Validity(StrEnum):
    """Where the time is, seen from a certificate."""

    NOT_YET_VALID = "not yet valid"
    VALID = "valid"
    ENDING = "ending"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, repr=False)
class TlsMaterial:
    """Certificate, key and authorities that were checked to be usable together.

    Attributes:
        chain_pem: Own certificate, then intermediates.
        key_pem: Its private key.
        ca_pem: The authorities whose certificates the other side may show.
        not_before_ms: From when the own certificate is valid, Unix ms.
        not_after_ms: Until when.
    """

    chain_pem: bytes
    key_pem: bytes
    ca_pem: bytes
    not_before_ms: int
    not_after_ms: int

    def validity(self, now_ms: int, warning_days: float) -> Validity:
        """Return whether the certificate is valid now, and whether it ends within `warning_days` or a third of its lifetime."""
        if now_ms < self.not_before_ms:
            return Validity.NOT_YET_VALID
        if now_ms > self.not_after_ms:
            return Validity.EXPIRED
        warned_ms = min(warning_days * _MS_PER_DAY, (self.not_after_ms - self.not_before_ms) / _WARNED_SHARE)
        return Validity.ENDING if self.not_after_ms - now_ms < warned_ms else Validity.VALID


def read_material(cert_file: Path, key_file: Path, ca_file: Path) -> TlsMaterial:
    """Return what the files hold.

    Args:
        cert_file: PEM, the own certificate first, then intermediates.
        key_file: PEM, unencrypted private key of that certificate; only its owner may read it.
        ca_file: PEM, the authorities whose certificates the other side may show; the system's own do not count.

    Raises:
        TlsError: A file is missing, unreadable, not PEM, or key and certificate do not belong together.
    """
    return _check_material(_read_files(cert_file, key_file, ca_file), cert_file, key_file, ca_file)


class OwnCertificate:
    """The newest usable content of the three files; safe to ask from any thread.

    Args:
        cert_file: As for `read_material`.
        key_file: As for `read_material`.
        ca_file: As for `read_material`.
        clock: The time.
        warning_days: From when on an expiry is worth a warning; see `TlsMaterial.validity`.

    Raises:
        TlsError: As `read_material`; only here, at the start.
    """

    def __init__(
        self, cert_file: Path, key_file: Path, ca_file: Path, *, clock: Clock | None = None, warning_days: float = 14.0
    ) -> None:
        self._files = cert_file, key_file, ca_file
        self._clock = clock or SystemClock()
        self._warning_days = warning_days
        self._lock = threading.Lock()
        self._in_use = read_material(*self._files)
        self._reported: tuple[bytes, Validity] | None = None
        self._refused = ""

    @property
    def validity(self) -> Validity:
        """Whether the certificate in use is valid now."""
        return self._in_use.validity(self._clock.now_ms(), self._warning_days)

    @property
    def seconds_left(self) -> float:
        """Until the certificate in use expires; negative once it has."""
        return (self._in_use.not_after_ms - self._clock.now_ms()) / 1000

    @property
    def cert_file(self) -> Path:
        """Where the certificate is read from."""
        return self._files[0]

    def current(self) -> TlsMaterial:
        """Read the files, and return the newest content that can be used: the same object for as long as nothing changes."""
        with self._lock:
            try:
                contents = _read_files(*self._files)
                if contents == (self._in_use.chain_pem, self._in_use.key_pem, self._in_use.ca_pem):
                    return self._in_use
                renewed = _check_material(contents, *self._files)
                self._verify_no_worse(renewed)
            except TlsError as error:
                self._report_refusal(error)
                return self._in_use
            self._in_use, self._refused = renewed, ""
            fields = self._describe()
        _LOGGER.info("changed certificate files are in use", extra={"fields": fields})
        return renewed

    def report_validity(self) -> None:
        """Log that the certificate in use has expired, is not valid yet or ends soon: once for each certificate and state."""
        self.current()
        validity = self.validity
        state = (hashlib.sha256(self._in_use.chain_pem).digest(), validity)
        if state == self._reported:
            return
        self._reported = state
        if validity is not Validity.VALID:
            level = logging.WARNING if validity is Validity.ENDING else logging.ERROR
            _LOGGER.log(level, "the own certificate is %s", validity.value, extra={"fields": self._describe()})

    def _verify_no_worse(self, renewed: TlsMaterial) -> None:
        """Refuse a certificate that is not valid now in the place of one that is; where none is, the newest is as good."""
        unusable = (Validity.EXPIRED, Validity.NOT_YET_VALID)
        found = renewed.validity(self._clock.now_ms(), self._warning_days)
        if found in unusable and self.validity not in unusable:
            raise TlsError(f"{self.cert_file}: the certificate is {found.value}")

    def _report_refusal(self, error: TlsError) -> None:
        # The text alone, and not the content: a file that is being written would be a new content each time.
        if self._refused == str(error):
            return
        self._refused = str(error)
        _LOGGER.error(
            "changed certificate files are refused, the former ones stay in use: %s",
            error,
            extra={"fields": {"reason": error.reason, **self._describe()}},
        )

    def _describe(self) -> dict[str, str]:
        ends = datetime.fromtimestamp(self._in_use.not_after_ms // 1000, UTC)
        return {"cert_file": str(self.cert_file), "not_after": ends.isoformat()}


async def watch_certificates(certificates: Sequence[OwnCertificate]) -> None:
    """Report for ever which of the certificates end, also while nobody connects."""
    while True:
        for certificate in certificates:
            # The files may lie on a slow volume, and answers must not wait for it.
            await asyncio.to_thread(certificate.report_validity)
        await asyncio.sleep(WATCH_PERIOD_SECONDS)


def _read_files(cert_file: Path, key_file: Path, ca_file: Path) -> tuple[bytes, bytes, bytes]:
    try:
        key_pem = bytes(read_private_file(key_file, max_bytes=_MAX_PEM_BYTES))
    except KeyFileError as error:
        raise TlsError(str(error)) from None
    return _read_public_file(cert_file), key_pem, _read_public_file(ca_file)


def _read_public_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(_MAX_PEM_BYTES + 1)
    except OSError as error:
        raise TlsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(pem) > _MAX_PEM_BYTES:
        raise TlsError(f"{path}: longer than {_MAX_PEM_BYTES} bytes")
    return pem


def _check_material(
    contents: tuple[bytes, bytes, bytes], cert_file: Path, key_file: Path, ca_file: Path
) -> TlsMaterial:
    chain_pem, key_pem, ca_pem = contents
    own, _ = _parse_certificates(chain_pem, cert_file)[0], _parse_certificates(ca_pem, ca_file)
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TlsError(f"{key_file}: not an unencrypted private key in PEM") from None
    try:
        own_key = own.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{cert_file}: the certificate is of a key that is not supported") from None
    if key.public_key() != own_key:
        raise TlsError(f"{key_file}: not the key of the certificate in {cert_file}")
    return TlsMaterial(
        chain_pem,
        key_pem,
        ca_pem,
        not_before_ms=int(own.not_valid_before_utc.timestamp() * 1000),
        not_after_ms=int(own.not_valid_after_utc.timestamp() * 1000),
    )


def _parse_certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise TlsError(f"{path}: no certificate in PEM") from None
