"""Has the newest checkpoint cosigned by witnesses (c2sp.org/tlog-witness), again and again, and keeps what they signed.

Witnesses never stand in the way of an opt-out: entries go out with the log's own checkpoint, and the cosigned one follows as a heartbeat.
A sidecar whose trust file demands witnesses counts its freshness from theirs.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import requests

from consent.eventlog.checkpoint import parse_checkpoint_text
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import VerifierKey
from consent.eventlog.signed_note import MAX_NOTE_BYTES, Note, NoteSignature, format_note, parse_note
from consent.eventlog.witness import format_witness_request, read_cosignatures
from feed.errors import FeedError
from feed.ports import Log, Witness, WitnessedCheckpoint

_LOGGER: Final = logging.getLogger(__name__)
REQUEST_SECONDS: Final = 5.0
#: A witness that is behind answers with its size once; twice means that somebody else submits to it at the same time.
_ATTEMPTS: Final = 3
_CONFLICT: Final = 409
_MAX_SIZE_CHARACTERS: Final = 32


class WitnessFailed(FeedError):
    """A witness did not cosign. Expected while it is away; a `ForkSeen` in its log means that this log has two histories."""

    reason = "WITNESS_FAILED"


class ConsistencyProofs(Protocol):
    """Where proofs come from (`feed.log_store.tree.LogTree`)."""

    async def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """That the one tree starts with the other."""
        ...


class Witnessing:
    """Asks every witness about the newest checkpoint, at an interval.

    Args:
        log: Whose checkpoints.
        proofs: Out of the same log.
        witnesses: Whom to ask.
        interval_seconds: From the end of one round to the start of the next.

    Attributes:
        newest: The newest checkpoint with cosignatures, None before the first.
        cosigned_at: `time.perf_counter` when somebody last cosigned, None before.
    """

    def __init__(
        self, log: Log, proofs: ConsistencyProofs, witnesses: Sequence[Witness], interval_seconds: float
    ) -> None:
        self._log = log
        self._proofs = proofs
        self._witnesses = witnesses
        self._interval_seconds = interval_seconds
        self._sizes: dict[VerifierKey, int] = {}
        self._failing: set[VerifierKey] = set()
        self._watchers: dict[object, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.newest: WitnessedCheckpoint | None = None
        self.cosigned_at: float | None = None

    @property
    def failing_count(self) -> int:
        """Witnesses that did not cosign when they were last asked."""
        return len(self._failing)

    def start(self) -> None:
        """Ask from now on; without effect where there are no witnesses."""
        if self._witnesses:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def watch(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` after each round in which somebody cosigned; returns the call that ends it."""
        name = object()
        self._watchers[name] = on_change
        return lambda: self._watchers.pop(name, None) and None

    async def _run(self) -> None:
        while True:
            try:
                await self.ask_all()
            except Exception as error:  # noqa: BLE001 - freshness must not end with one round; its type names no value
                _LOGGER.error("a round of witnessing failed", extra={"fields": {"error": type(error).__name__}})
            await asyncio.sleep(self._interval_seconds)

    async def ask_all(self) -> None:
        """One round: the newest checkpoint to every witness at once."""
        note = parse_note(self._log.head.checkpoint_note)
        size = parse_checkpoint_text(note.text).size
        answers = await asyncio.gather(*(self._ask_and_note(witness, note, size) for witness in self._witnesses))
        lines = tuple(line for answer in answers for line in answer)
        if lines:
            cosigned = Note(note.text, (*note.signatures, *lines))
            self.newest = WitnessedCheckpoint(size, format_note(cosigned))
            self.cosigned_at = time.perf_counter()
            for on_change in tuple(self._watchers.values()):
                on_change()

    async def _ask_and_note(self, witness: Witness, note: Note, size: int) -> tuple[NoteSignature, ...]:
        try:
            lines = await self._ask(witness, note, size)
        except FeedError as error:
            # Once, and not at every round of an outage.
            if witness.key not in self._failing:
                self._failing.add(witness.key)
                fields = {"witness": witness.key.name, "reason": error.reason, "error": str(error)}
                _LOGGER.warning("a witness does not cosign", extra={"fields": fields})
            return ()
        if witness.key in self._failing:
            self._failing.discard(witness.key)
            _LOGGER.info("a witness cosigns again", extra={"fields": {"witness": witness.key.name}})
        return lines

    async def _ask(self, witness: Witness, note: Note, size: int) -> tuple[NoteSignature, ...]:
        old_size = self._sizes.get(witness.key, 0)
        status = 0
        for _ in range(_ATTEMPTS):
            proof = await self._proofs.consistency_proof(old_size, size) if old_size else ()
            body = format_witness_request(old_size, proof, format_note(note))
            status, answer = await asyncio.to_thread(_post, witness, body)
            if status == requests.codes.ok:
                self._sizes[witness.key] = size
                return _read_lines(answer, note, witness.key)
            if status != _CONFLICT or (old_size := _read_size(answer)) > size:
                break
        raise WitnessFailed(f"it answered with HTTP status {status}")


def _post(witness: Witness, body: bytes) -> tuple[int, bytes]:
    files = witness.client_files
    try:
        with requests.post(
            f"{witness.url.rstrip('/')}/add-checkpoint",
            data=body,
            headers={"Content-Type": "text/plain"},
            timeout=REQUEST_SECONDS,
            allow_redirects=False,
            stream=True,
            cert=None if files is None else (str(files[0]), str(files[1])),
            verify=str(witness.ca_file) if witness.ca_file is not None else True,
        ) as response:
            answer: bytes = response.raw.read(MAX_NOTE_BYTES, decode_content=True)
            return response.status_code, answer
    except (requests.RequestException, OSError) as error:
        raise WitnessFailed(f"it cannot be asked: {type(error).__name__}") from None


def _read_size(answer: bytes) -> int:
    text = answer[:_MAX_SIZE_CHARACTERS].removesuffix(b"\n")
    if not text.isdigit():
        raise WitnessFailed("it has seen another tree of this size")
    return int(text)


def _read_lines(answer: bytes, note: Note, key: VerifierKey) -> tuple[NoteSignature, ...]:
    try:
        lines = read_cosignatures(answer, note, [key])
    except EventLogError as error:
        raise WitnessFailed(f"its answer is not a cosignature: {error.reason}") from None
    if not lines:
        raise WitnessFailed("its answer holds no cosignature by the key that is configured")
    return lines
