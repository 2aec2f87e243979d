"""The HTTP side of the witness: `add-checkpoint` after c2sp.org/tlog-witness, and a health check."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from consent.eventlog.keys import SigningKey, VerifierKey, cosign
from consent.eventlog.witness import (
    MAX_REQUEST_BYTES,
    ForkSeen,
    MalformedWitnessRequest,
    OldSizeDiffers,
    WitnessRefusal,
    format_cosignatures,
    judge_witness_request,
    parse_witness_request,
)
from hosting.clock import Clock
from witness.errors import MemoryUnusable
from witness.memory import Memory

_LOGGER: Final = logging.getLogger(__name__)
_UNAVAILABLE: Final = 503


class Cosigner:
    """Judges requests one at a time, so that none is judged by what another is about to change.

    Args:
        key: Of the witness.
        log_keys: Keys of each log that is watched, by its origin.
        memory: What was cosigned before.
        clock: The time.
    """

    def __init__(
        self, key: SigningKey, log_keys: Mapping[str, Sequence[VerifierKey]], memory: Memory, clock: Clock
    ) -> None:
        self._key = key
        self._log_keys = log_keys
        self._memory = memory
        self._clock = clock
        self._turn = asyncio.Lock()

    async def cosign(self, body: bytes) -> bytes:
        """Cosign the checkpoint of a request.

        Returns:
            Signature lines.

        Raises:
            WitnessRefusal: As the subclass says.
            MemoryUnusable: It cannot be written down, so it is not cosigned.
        """
        request = parse_witness_request(body)
        async with self._turn:
            try:
                checkpoint = judge_witness_request(request, self._log_keys, self._memory.trees)
            except ForkSeen as error:
                path = await asyncio.to_thread(self._memory.keep_evidence, body)
                fields = {"reason": error.reason, "evidence": path.name if path else ""}
                _LOGGER.error("a log has signed a tree that does not continue its own", extra={"fields": fields})
                raise
            await asyncio.to_thread(self._memory.keep, checkpoint)
            signature = cosign(request.note.text, self._key, self._clock.now_ms() // 1000)
        return format_cosignatures([signature], request.note.text)


def make_app(cosigner: Cosigner) -> Starlette:
    """The application, for any ASGI server."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            return PlainTextResponse(await cosigner.cosign(await _read_body(request)))
        except OldSizeDiffers as error:
            # As a header and not as the media type, to which a character set would be added.
            return Response(f"{error.size}\n", error.http_status, headers={"content-type": "text/x.tlog.size"})
        except WitnessRefusal as error:
            return PlainTextResponse(f"{error.reason}: {error}\n", error.http_status)
        except MemoryUnusable as error:
            _LOGGER.error("cannot cosign: %s", error, extra={"fields": {"reason": error.reason}})
            return PlainTextResponse(f"{error.reason}\n", _UNAVAILABLE)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"]), Route("/healthz", health, methods=["GET"])]
    )


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise MalformedWitnessRequest(f"body: over {MAX_REQUEST_BYTES} bytes")
    return bytes(body)
