"""The asyncio client: the same names and the same courses as the blocking one, with `await`."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from consentry_client.async_transport import AsyncStream, AsyncTransport
from consentry_client.bulk import BulkCourse, BulkJob, BulkLimits
from consentry_client.decision import ConsentDenied, Decision, Reason
from consentry_client.exchange import CHECK_STREAM, Call, Course, Drop, Emit, Receive, Send, Take
from consentry_client.explanation import Explanation
from consentry_client.failure import Failure
from consentry_client.inquiry import Inquiry
from consentry_client.question import AskOptions, Question
from consentry_client.settings import ClientOptions, resolve_settings
from consentry_client.status import SidecarStatus
from consentry_client.subject import SubjectLike

R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """Asks the sidecar whether a subject's data may be used. Every failure is answered with a deny.

    For any number of tasks of one event loop. The connection is made by the first call, so a client may be made before
    the loop runs.

    Args:
        address: `unix:///path` or, with `tls`, `host:port`; default: the variable CONSENTRY_ADDRESS.
        options: See `ClientOptions`.

    Raises:
        ConfigurationError: What it is made with cannot work.
    """

    def __init__(self, address: str | None = None, **options: Unpack[ClientOptions]) -> None:
        settings = resolve_settings(address, options)
        self._inquiry = Inquiry(settings)
        self._transport = AsyncTransport(settings.endpoint)

    async def check(
        self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]
    ) -> Decision:
        """Asks about one subject; see `Client.check`."""
        return await self._run(self._inquiry.check(subject, Question.ask(purpose, **options)))

    async def check_many(
        self, subjects: Iterable[SubjectLike], purpose: str | Iterable[str], **options: Unpack[AskOptions]
    ) -> list[Decision]:
        """Asks the same about many subjects, in batches; see `Client.check_many`."""
        return await self._run(self._inquiry.check_many(subjects, Question.ask(purpose, **options)))

    def filter_allowed(
        self,
        items: Iterable[T] | AsyncIterable[T],
        *,
        key: Callable[[T], SubjectLike],
        purpose: str | Iterable[str],
        on_denied: Callable[[T, Decision], object] | None = None,
        limits: BulkLimits | None = None,
        **options: Unpack[AskOptions],
    ) -> AsyncIterator[T]:
        """Yields the items whose subject may be used, in order; see `Client.filter_allowed`.

        The items may come from an asynchronous iterable.
        """
        job = BulkJob(self._inquiry, Question.ask(purpose, **options), key, on_denied, limits or BulkLimits())
        return self._run_bulk(job.run(), items)

    async def require(
        self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]
    ) -> Decision:
        """Asks like `check` and raises ConsentDenied where the answer is a deny; see `Client.require`."""
        decision = await self.check(subject, purpose, **options)
        if not decision:
            raise ConsentDenied(decision)
        return decision

    async def explain(
        self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]
    ) -> Explanation:
        """Asks like `check`, and for the rules and the event behind the answer; see `Client.explain`."""
        return await self._run(self._inquiry.explain(subject, Question.ask(purpose, **options)))

    async def status(self, *, timeout_seconds: float | None = None) -> SidecarStatus:
        """Returns what the sidecar holds and how fresh it is; see `Client.status`."""
        return await self._run(self._inquiry.status(timeout_seconds))

    async def close(self) -> None:
        """Closes the connection; whoever asks afterwards gets a deny."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.endpoint.target})"

    async def _run(self, course: Course[R]) -> R:
        try:
            call = next(course)
            while True:
                call = course.send(await self._transport.invoke(call))
        except StopIteration as end:
            result: R = end.value
            return result

    async def _run_bulk(self, course: BulkCourse, source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
        runner = _BulkRunner(self._transport, source)
        reply: Any = None
        try:
            while True:
                try:
                    step = course.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    reply = None
                    yield step.item
                else:
                    reply = await runner.carry_out(step)
        finally:
            runner.drop()


class _BulkRunner:
    """Carries out the steps of one bulk job but `Emit`."""

    def __init__(self, transport: AsyncTransport, source: Iterable[T] | AsyncIterable[T]) -> None:
        self._transport = transport
        self._source = aiter(source) if isinstance(source, AsyncIterable) else _walk(source)
        self._stream: AsyncStream | None = None

    async def carry_out(self, step: Call | Drop | Receive | Send | Take) -> Any:
        match step:
            case Take():
                return await self._take(step.count)
            case Send():
                if self._stream is None:
                    self._stream = self._transport.open_stream(CHECK_STREAM, step.metadata, step.wait_for_ready)
                if self._stream is not None:
                    self._stream.send(step.message_bytes)
            case Receive():
                if self._stream is None:
                    return Failure(Reason.CLIENT_UNUSABLE)
                return await self._stream.receive(step.timeout_seconds)
            case Drop():
                self.drop()
            case Call():
                return await self._transport.invoke(step)
        return None

    async def _take(self, count: int) -> list[Any]:
        items: list[Any] = []
        while len(items) < count:
            try:
                items.append(await anext(self._source))
            except StopAsyncIteration:
                break
        return items

    def drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


async def _walk(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
