"""Which sidecars' own keys count: enrolled with a token or by an operator, retired by an operator, all of it in the log."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from consent.event import EnrolEvent, RetireEvent
from consent.eventlog.acknowledgement import verify_possession
from consent.eventlog.keys import KeyKind, VerifierKey
from consent.tenant_state import EnrolledSidecar
from feed.errors import EnrolmentRefused, SidecarRetired, SidecarUnknown
from feed.log_store.port import EnrolmentChange, LogStore
from feed.ports import Log, Submission
from feed.signing.enrolment_tokens import EnrolmentToken, EnrolmentTokens
from hosting.clock import Clock

MAX_PENDING: Final = 1_000
"""Sidecars that may wait for approval; one more takes the place of the oldest."""
UNATTENDED_SOURCE: Final = "enrolment-token"
"""Source of an ENROL that nobody has looked at."""

_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingEnrolment:
    """A sidecar that has asked and waits for approval.

    Attributes:
        sidecar_id: Its name, which its certificate carries.
        public_key: Its Ed25519 key, 32 bytes.
        possession: Its signature that the key is its own.
        asked_at_ms: Unix ms.
    """

    sidecar_id: str
    public_key: bytes
    possession: bytes
    asked_at_ms: int

    @property
    def key_id(self) -> bytes:
        """4 bytes by which an operator compares the key with what the sidecar's own status shows."""
        return VerifierKey(self.sidecar_id, KeyKind.SIDECAR, self.public_key).key_id


class EnrolmentDesk:
    """Takes enrolments, and says which are in force. Pending ones live in memory: a sidecar asks again whenever it connects.

    Args:
        log: Where ENROL and RETIRE are logged.
        store: Remembers who was retired.
        tokens: Reads and makes tokens.
        clock: The time.
        origin: Name of the log.
    """

    def __init__(self, log: Log, store: LogStore, tokens: EnrolmentTokens, clock: Clock, origin: str) -> None:
        self._log = log
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._origin = origin
        self._changes: dict[str, EnrolmentChange] = {}
        self._pending: dict[str, PendingEnrolment] = {}
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Take up what the log says; raises CorruptLog or LogStoreError."""
        self._changes = {change.sidecar_id: change for change in await self._store.load_enrolments()}

    @contextlib.asynccontextmanager
    async def steady(self) -> AsyncIterator[None]:
        """Nobody is enrolled or retired while the block runs."""
        async with self._turn:
            yield

    def find(self, sidecar_id: str) -> EnrolledSidecar | None:
        """The enrolment in force of a sidecar."""
        return self._log.head.tenant.find_sidecar(sidecar_id)

    def find_change(self, sidecar_id: str) -> EnrolmentChange | None:
        """The last ENROL or RETIRE of a sidecar."""
        return self._changes.get(sidecar_id)

    @property
    def changes(self) -> tuple[EnrolmentChange, ...]:
        """The last ENROL or RETIRE of every sidecar that the log ever named."""
        return tuple(self._changes.values())

    @property
    def pending(self) -> tuple[PendingEnrolment, ...]:
        """Those that wait for approval, the longest first."""
        return tuple(self._pending.values())

    def verify_not_retired(self, sidecar_id: str) -> None:
        """Raise SidecarRetired for a sidecar that was retired and not enrolled anew."""
        # By the log's head, which is newer than anything remembered here while a change is under way.
        if sidecar_id in self._changes and self.find(sidecar_id) is None:
            raise SidecarRetired("sidecar_id: was retired; it must be enrolled anew")

    def issue_token(self, sidecar_id: str, valid_ms: int) -> tuple[str, int]:
        """A token for one enrolment of a sidecar, and the Unix ms at which it expires."""
        expires_at_ms = self._clock.now_ms() + valid_ms
        return self._tokens.issue(EnrolmentToken(sidecar_id, self._log.head.size, expires_at_ms)), expires_at_ms

    async def enrol(self, sidecar_id: str, public_key: bytes, possession: bytes, token_text: str) -> int | None:
        """Enrol a sidecar's key, or let it wait for approval.

        Returns:
            Seq of the ENROL of this very key, logged now or earlier; None while it waits.

        Raises:
            InvalidPossession: The key is not shown to be the sidecar's.
            EnrolmentRefused: The token permits it no more, or never did; it waits for approval all the same.
            FeedError: What `Log.submit` raises.
        """
        verify_possession(sidecar_id, public_key, possession, self._origin)
        asked = PendingEnrolment(sidecar_id, public_key, possession, self._clock.now_ms())
        async with self._turn:
            enrolled = self.find(sidecar_id)
            if enrolled is not None and enrolled.public_key == public_key:
                return enrolled.enrolled_seq
            if not token_text:
                self._wait_for_approval(asked)
                return None
            try:
                self._verify_token(token_text, asked)
            except EnrolmentRefused:
                self._wait_for_approval(asked)
                raise
            return await self._log_enrolment(asked, UNATTENDED_SOURCE)

    async def approve(self, sidecar_id: str, key_id: bytes, source: str) -> int:
        """Enrol a sidecar that waits; returns the ENROL's seq.

        Args:
            sidecar_id: Which one.
            key_id: Of the key that was looked at, 4 bytes; empty for whichever waits.
            source: Who approves.

        Raises:
            SidecarUnknown: It does not wait, or no longer with that key.
            FeedError: What `Log.submit` raises.
        """
        async with self._turn:
            asked = self._pending.get(sidecar_id)
            if asked is None or key_id not in (b"", asked.key_id):
                raise SidecarUnknown("sidecar_id: no enrolment of this name and key waits for approval")
            return await self._log_enrolment(asked, source)

    async def retire(self, sidecar_id: str, source: str) -> int:
        """Retire an enrolled sidecar; returns the RETIRE's seq.

        Raises:
            SidecarUnknown: It is not enrolled.
            FeedError: What `Log.submit` raises.
        """
        async with self._turn:
            if self.find(sidecar_id) is None:
                raise SidecarUnknown("sidecar_id: is not enrolled")
            now_ms = self._clock.now_ms()
            event = RetireEvent(origin=self._origin, source=source, sidecar_id=sidecar_id, retired_at_ms=now_ms)
            accepted = await self._log.submit(Submission((event,)))
            self._changes[sidecar_id] = EnrolmentChange(sidecar_id, accepted.seq, is_retired=True)
        return accepted.seq

    def _verify_token(self, token_text: str, asked: PendingEnrolment) -> None:
        token = self._tokens.read(token_text, asked.sidecar_id, asked.asked_at_ms)
        change, enrolled = self._changes.get(asked.sidecar_id), self.find(asked.sidecar_id)
        changed_seq = max(change.seq if change else 0, enrolled.enrolled_seq if enrolled else 0)
        if changed_seq > token.issued_size:
            raise EnrolmentRefused("enrolment_token: is used up; the sidecar was enrolled or retired since")

    async def _log_enrolment(self, asked: PendingEnrolment, source: str) -> int:
        event = EnrolEvent(
            origin=self._origin,
            source=source,
            sidecar_id=asked.sidecar_id,
            public_key=asked.public_key,
            enrolled_at_ms=self._clock.now_ms(),
            possession=asked.possession,
        )
        accepted = await self._log.submit(Submission((event,)))
        self._changes[asked.sidecar_id] = EnrolmentChange(asked.sidecar_id, accepted.seq, is_retired=False)
        self._pending.pop(asked.sidecar_id, None)
        fields = {"sidecar_id": asked.sidecar_id, "seq": accepted.seq, "by": source}
        _LOGGER.info("a sidecar was enrolled", extra={"fields": fields})
        return accepted.seq

    def _wait_for_approval(self, asked: PendingEnrolment) -> None:
        known = self._pending.pop(asked.sidecar_id, None)
        if known is None:
            fields = {"sidecar_id": asked.sidecar_id, "key_id": asked.key_id.hex()}
            _LOGGER.warning("a sidecar waits to be enrolled", extra={"fields": fields})
        while len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[asked.sidecar_id] = asked
