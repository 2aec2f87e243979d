"""Key-encryption keys (KEKs) that a key service keeps sealed, and that are used here in memory.

A KEK is drawn here, sealed once by the service under a key that never leaves it, and kept only in that form: beside every data key that it
wraps. So a file can be opened by whoever the service lets open it, and by nobody else; nothing but the settings is needed beside it. The
service is asked at the start, for each KEK that is met for the first time, and once a day for a new one. No check, no batch and no
journal segment waits for it, and while it is away everything goes on under the KEK at hand.

A wrapped key is u8 version (2), the name of the service's key (u16 length and UTF-8), the sealed KEK (u32 length and bytes), then as in
`sidecar.cache.key_wrapping`.
"""

import logging
import os
import struct
import threading
from typing import NamedTuple, Protocol

from consent import encoding as wire
from hosting.clock import Clock
from sidecar.cache.key_wrapping import KEK_BYTES, Kek
from sidecar.errors import KeyServiceError, WrongCacheKey

KEK_AGE_MS = 24 * 60 * 60 * 1000
"""A newer KEK is drawn after this time."""

_VERSION = b"\x02"
_HEAD = wire.pair(wire.STRING, wire.BLOB)

_log = logging.getLogger(__name__)


class KeyService(Protocol):
    """Keeps keys that never leave it. Methods block, for a bounded time, and may be called by several threads.

    They raise KeyServiceUnavailable or KeyServiceRefused.
    """

    @property
    def key_names(self) -> tuple[str, ...]:
        """Keys that may be used, the newest first."""
        ...

    def seal(self, key_name: str, kek: bytes) -> bytes:
        """Seal a KEK under a key."""
        ...

    def open(self, key_name: str, sealed_kek: bytes) -> bytes:
        """Open it; raises WrongCacheKey where it was changed, or sealed under another key or for another sidecar."""
        ...


class _Current(NamedTuple):
    kek: Kek
    head: bytes
    drawn_boot_ms: int


class EnvelopeKeyProvider:
    """Wraps data keys under KEKs of a key service (`sidecar.ports.KeyProvider`).

    Args:
        service: Seals and opens the KEKs.
        clock: For the age of the KEK.
        kek_age_ms: After which `refresh` draws a new one.
    """

    def __init__(self, service: KeyService, clock: Clock, kek_age_ms: int = KEK_AGE_MS) -> None:
        self._service = service
        self._clock = clock
        self._kek_age_ms = kek_age_ms
        self._current: _Current | None = None
        self._opened: dict[bytes, Kek] = {}
        self._drawing = threading.Lock()
        self._is_failing = False

    def refresh(self) -> None:
        """Draw a KEK if there is none, or if it has become old; the one at hand stays where the service fails.

        Raises:
            KeyServiceUnavailable, KeyServiceRefused: None is at hand.
        """
        self._fresh()

    def wrap(self, key: bytes, purpose: str) -> bytes:
        """Encrypt a data key under the newest KEK, bound to `purpose`; asks the service only if there is none yet."""
        current = self._current or self._fresh()
        return current.head + current.kek.wrap(key, purpose)

    def unwrap(self, wrapped_key: bytes, purpose: str) -> bytearray:
        """Decrypt it under the KEK that it carries; asks the service the first time that this KEK is met.

        Raises:
            WrongCacheKey: It was changed, or its KEK is sealed under none of the keys in the settings.
            KeyServiceUnavailable, KeyServiceRefused: The KEK cannot be had.
        """
        key_name, sealed_kek, at = _parse(wrapped_key)
        head = wrapped_key[:at]
        kek = self._opened.get(head)
        if kek is None:
            # Only what the settings name is asked for: a file must not choose the key that opens it.
            if key_name not in self._service.key_names:
                raise WrongCacheKey("the key is sealed under a key of the key service that the settings do not name")
            secret = self._service.open(key_name, sealed_kek)
            if len(secret) != KEK_BYTES:
                raise WrongCacheKey("what the key service opened is not a key of ours")
            kek = self._opened[head] = Kek(secret)
        return kek.unwrap(wrapped_key[at:], purpose)

    def is_current(self, wrapped_key: bytes) -> bool:
        """Whether it is wrapped under the newest KEK."""
        return self._current is not None and wrapped_key.startswith(self._current.head)

    def _fresh(self) -> _Current:
        with self._drawing:
            current, now_ms = self._current, self._clock.boot_ms()
            if current is not None and now_ms - current.drawn_boot_ms < self._kek_age_ms:
                return current
            secret, key_name = os.urandom(KEK_BYTES), self._service.key_names[0]
            try:
                sealed_kek = self._service.seal(key_name, secret)
            except KeyServiceError as error:
                if current is None:
                    raise
                if not self._is_failing:
                    _log.warning("no newer key can be had, the one at hand stays: %s: %s", error.reason, error)
                self._is_failing = True
                return current
            head = _VERSION + _HEAD.write((key_name, sealed_kek))
            self._current, self._is_failing = _Current(Kek(secret), head, now_ms), False
            self._opened[head] = self._current.kek
            return self._current


def _parse(wrapped_key: bytes) -> tuple[str, bytes, int]:
    """(name of the service's key, sealed KEK, where they end); raises WrongCacheKey."""
    try:
        if wrapped_key[:1] == _VERSION:
            (key_name, sealed_kek), at = _HEAD.read(wrapped_key, 1)
            return key_name, sealed_kek, at
    except (wire.Truncated, IndexError, struct.error):
        pass
    raise WrongCacheKey("the key was not wrapped by a key service") from None
