"""Requests between their arrival and their batch."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from consent.authority import NotAuthorised
from feed.errors import FeedError, Overloaded, ShuttingDown
from feed.ports import Accepted
from feed.sequencer.batch_builder import FormattedRequest


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request and the answer that its caller waits for; whatever is answered first counts.

    Attributes:
        request: What is to be logged.
        answer: Cancelled where the caller has gone away.
    """

    request: FormattedRequest
    answer: asyncio.Future[Accepted]

    def accept(self, accepted: Accepted) -> None:
        """Answer that it is in the log."""
        if not self.answer.done():
            self.answer.set_result(accepted)

    def refuse(self, error: FeedError | NotAuthorised) -> None:
        """Answer that it is not."""
        if not self.answer.done():
            self.answer.set_exception(error)


class WaitingRequests:
    """Requests in the order of their arrival.

    Args:
        max_count: How many may wait.
    """

    def __init__(self, max_count: int) -> None:
        self._requests: deque[WaitingRequest] = deque()
        self._max_count = max_count

    def __len__(self) -> int:
        """How many wait."""
        return len(self._requests)

    def add(self, request: FormattedRequest) -> WaitingRequest:
        """Put a request at the end; raises Overloaded where too many wait."""
        if len(self._requests) >= self._max_count:
            raise Overloaded("too many requests wait for the log")
        waiting = WaitingRequest(request, asyncio.get_running_loop().create_future())
        self._requests.append(waiting)
        return waiting

    def take(self, max_events: int) -> list[WaitingRequest]:
        """Take from the front until there are `max_events` events; whoever has gone away meanwhile is left out."""
        taken, events = [], 0
        while self._requests and events < max_events:
            waiting = self._requests.popleft()
            if not waiting.answer.cancelled():
                events += len(waiting.request.event_bytes)
                taken.append(waiting)
        return taken

    def take_all(self) -> list[WaitingRequest]:
        """Take every request."""
        taken = list(self._requests)
        self._requests.clear()
        return taken


def refuse_all(requests: Iterable[WaitingRequest]) -> None:
    """Answer whoever has no answer yet that there will be none."""
    for waiting in requests:
        waiting.refuse(ShuttingDown("the log has stopped"))
