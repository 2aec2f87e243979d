"""The blocking client."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

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
from consentry_client.sync_transport import SyncStream, SyncTransport

R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Asks the sidecar whether a subject's data may be used. Every failure is answered with a deny.

    Safe for any number of threads. The connection is made by the first call, so a client may be made before a fork but
    must not be used before it.

    Args:
        address: `unix:///path` or, with `tls`, `host:port`; default: the variable CONSENTRY_ADDRESS.
        options: See `ClientOptions`.

    Raises:
        ConfigurationError: What it is made with cannot work.
    """

    def __init__(self, address: str | None = None, **options: Unpack[ClientOptions]) -> None:
        settings = resolve_settings(address, options)
        self._inquiry = Inquiry(settings)
        self._transport = SyncTransport(settings.endpoint)

    def check(self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]) -> Decision:
        """Asks about one subject: an identifier, or several of one person.

        Args:
            subject: Who.
            purpose: What for; of several, all must be allowed.
            options: See `AskOptions`.

        Returns:
            The decision, true where the data may be used; never an exception because of what happened on the way.

        Raises:
            TypeError: An argument is of the wrong type.
        """
        return self._run(self._inquiry.check(subject, Question.ask(purpose, **options)))

    def check_many(
        self, subjects: Iterable[SubjectLike], purpose: str | Iterable[str], **options: Unpack[AskOptions]
    ) -> list[Decision]:
        """Asks the same about many subjects, in batches; the deadline is each batch's.

        Returns:
            One decision for each subject, in order; those of a batch that failed are denies.
        """
        return self._run(self._inquiry.check_many(subjects, Question.ask(purpose, **options)))

    def filter_allowed(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], SubjectLike],
        purpose: str | Iterable[str],
        on_denied: Callable[[T, Decision], object] | None = None,
        limits: BulkLimits | None = None,
        **options: Unpack[AskOptions],
    ) -> Iterator[T]:
        """Yields the items whose subject may be used, in order, asking over one stream as it goes.

        Works on millions without holding them: `limits` bounds what is taken ahead. Items of a batch that got no
        decision are left out like denied ones.

        Args:
            items: Anything; may be a generator.
            key: Gives an item's subject.
            purpose: What for.
            on_denied: Told of every item left out, with its decision; may raise to end the job.
            limits: Sizes of batches and look-ahead, and the age at which an answer is asked for again.
            options: See `AskOptions`.
        """
        job = BulkJob(self._inquiry, Question.ask(purpose, **options), key, on_denied, limits or BulkLimits())
        return self._run_bulk(job.run(), iter(items))

    def require(self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]) -> Decision:
        """Asks like `check` and raises where the answer is a deny.

        Raises:
            ConsentDenied: The data may not be used.
        """
        decision = self.check(subject, purpose, **options)
        if not decision:
            raise ConsentDenied(decision)
        return decision

    def explain(self, subject: SubjectLike, purpose: str | Iterable[str], **options: Unpack[AskOptions]) -> Explanation:
        """Asks like `check`, and for the rules and the event behind the answer; needs a permission of its own."""
        return self._run(self._inquiry.explain(subject, Question.ask(purpose, **options)))

    def status(self, *, timeout_seconds: float | None = None) -> SidecarStatus:
        """Returns what the sidecar holds and how fresh it is.

        Raises:
            StatusError: It did not say.
        """
        return self._run(self._inquiry.status(timeout_seconds))

    def close(self) -> None:
        """Closes the connection; whoever asks afterwards gets a deny."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.endpoint.target})"

    def _run(self, course: Course[R]) -> R:
        try:
            call = next(course)
            while True:
                call = course.send(self._transport.invoke(call))
        except StopIteration as end:
            result: R = end.value
            return result

    def _run_bulk(self, course: BulkCourse, source: Iterator[T]) -> Iterator[T]:
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
                    reply = runner.carry_out(step)
        finally:
            runner.drop()


class _BulkRunner:
    """Carries out the steps of one bulk job but `Emit`."""

    def __init__(self, transport: SyncTransport, source: Iterator[Any]) -> None:
        self._transport = transport
        self._source = source
        self._stream: SyncStream | None = None

    def carry_out(self, step: Call | Drop | Receive | Send | Take) -> Any:
        match step:
            case Take():
                return list(islice(self._source, step.count))
            case Send():
                if self._stream is None:
                    self._stream = self._transport.open_stream(CHECK_STREAM, step.metadata, step.wait_for_ready)
                if self._stream is not None:
                    self._stream.send(step.message_bytes)
            case Receive():
                if self._stream is None:
                    return Failure(Reason.CLIENT_UNUSABLE)
                return self._stream.receive(step.timeout_seconds)
            case Drop():
                self.drop()
            case Call():
                return self._transport.invoke(step)
        return None

    def drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
