"""RecordDirectives from the other side, for imports into a running feed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

import grpc

from feed.grpc_api.intake_client_codec import format_streamed_requests, parse_outcomes
from feed.grpc_api.intake_service import SERVICE_NAME
from feed.intake.imports.run import ImportInterrupted, Outcome
from feed.intake.requests import RecordDirective
from hosting.grpc_errors import REASON_KEY

ANSWER_SECONDS: Final = 60.0
"""A feed that says nothing for this long while it has rows to answer has stopped."""
_WRONG_LISTENER: Final = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


class IntakeClient:
    """Implements `feed.intake.imports.run.DirectiveRecorder` over one call.

    Args:
        channel: To the feed's import listener; the caller closes it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def record(
        self, batches: AsyncIterator[Sequence[RecordDirective]]
    ) -> AsyncGenerator[Sequence[Outcome], None]:
        """Record every request of every batch; each batch is one message, and what comes of it is durable when it comes.

        Raises:
            ImportInterrupted: The feed does not answer, or stopped answering, or its listener takes no imports.
        """
        method = f"/{SERVICE_NAME}/RecordDirectives"
        call = self._channel.stream_stream(method, format_streamed_requests, parse_outcomes)(batches)
        try:
            answers = aiter(call)
            while True:
                async with asyncio.timeout(ANSWER_SECONDS):
                    outcomes = await anext(answers)
                yield outcomes
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ImportInterrupted(
                f"the feed has not answered for {ANSWER_SECONDS:.0f} s; run the import again"
            ) from None
        except grpc.aio.AioRpcError as error:
            raise ImportInterrupted(_describe(error)) from None
        finally:
            call.cancel()


def _describe(error: grpc.aio.AioRpcError) -> str:
    reason = error.code().name
    for key, value in error.trailing_metadata() or ():
        if key == REASON_KEY and isinstance(value, str):
            reason = value
    if error.code() in _WRONG_LISTENER:
        return f"the listener at this address takes no imports ({reason})"
    return f"the feed does not answer, or has stopped answering ({reason}); run the same import again to go on"
