"""The sidecar's own signing key, and how the log comes to know it."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from consent.eventlog.acknowledgement import sign_possession
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from hosting.clock import Clock
from sidecar.errors import FeedUnavailable, SidecarError
from sidecar.ports import Cache, Feed, LogHead

ASK_AGAIN_MS: Final = 60_000
"""How long a sidecar that was not enrolled waits until it asks again: an approval shows in the log by itself, a new token does not."""
MAX_TOKEN_BYTES: Final = 4_096

_LOGGER: Final = logging.getLogger(__name__)


class Enrolment:
    """Asks to be enrolled for as long as the log that is held does not say so. Answers never wait for it.

    Args:
        cache: Holds the key and the log's head.
        sidecar_id: The sidecar's name.
        origin: Name of the log.
        token_file: Where a token may lie; None for none.
        clock: The time.
    """

    def __init__(self, cache: Cache, sidecar_id: str, origin: str, token_file: Path | None, clock: Clock) -> None:
        self._cache = cache
        self._origin = origin
        self._token_file = token_file
        self._clock = clock
        self._asked_boot_ms: int | None = None
        self._is_retired = False
        self.key: SigningKey = generate_signing_key(sidecar_id, KeyKind.SIDECAR, cache.signing_seed)

    def is_enrolled_in(self, head: LogHead) -> bool:
        """Whether a log enrols this very key."""
        enrolled = head.tenant.find_sidecar(self.key.name)
        return enrolled is not None and enrolled.public_key == self.key.verifier_key.public_key

    @property
    def is_enrolled(self) -> bool:
        """Whether the log that is held does, and the feed has not said since that the sidecar was retired."""
        return self.is_enrolled_in(self._cache.head) and not self._is_retired

    def note_retired(self) -> None:
        """The feed serves this sidecar no more: it cannot read its RETIRE in the log, and must ask anew."""
        self._is_retired = True
        self._asked_boot_ms = None

    async def ask(self, feed: Feed, *, is_new_connection: bool = False) -> None:
        """Ask to be enrolled, where that is due. What the feed refuses is logged, and does not keep entries from coming.

        Raises:
            FeedUnavailable: Nobody answers.
        """
        if self.is_enrolled:
            return
        now_boot_ms = self._clock.boot_ms()
        is_due = self._asked_boot_ms is None or now_boot_ms - self._asked_boot_ms >= ASK_AGAIN_MS
        if not is_due and not is_new_connection:
            return
        self._asked_boot_ms = now_boot_ms
        token = await asyncio.to_thread(_read_token, self._token_file)
        public_key, possession = self.key.verifier_key.public_key, sign_possession(self.key, self._origin)
        try:
            is_enrolled = await feed.enrol(public_key, possession, token)
        except FeedUnavailable:
            raise
        except SidecarError as error:
            _LOGGER.warning(
                "the feed does not enrol this sidecar: %s", error, extra={"fields": {"reason": error.reason}}
            )
            return
        if is_enrolled:
            self._is_retired = False
        else:
            fields = {"key_id": self.key.key_id.hex()}
            _LOGGER.warning("this sidecar waits for an operator to approve its enrolment", extra={"fields": fields})


def _read_token(path: Path | None) -> str:
    """The token; empty where there is none, so that an operator can approve."""
    if path is None:
        return ""
    try:
        return path.read_bytes()[:MAX_TOKEN_BYTES].decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        _LOGGER.warning("the enrolment token cannot be read; asking without one")
        return ""
