"""The blocking client of the intake: hands a person's request to the feed."""

import os
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypedDict, Unpack

from consentry_client.endpoint import TlsFiles, resolve_endpoint
from consentry_client.exchange import Pause
from consentry_client.intake_course import (
    A,
    Acceptance,
    DirectiveOptions,
    GrantOptions,
    IntakeCourse,
    IntakeSettings,
    SendOptions,
    record_directive,
    record_link,
)
from consentry_client.receipt_course import Receipt, fetch_receipt
from consentry_client.settings import INTAKE_ADDRESS_VARIABLE, require_count, require_duration
from consentry_client.subject import Identifier
from consentry_client.sync_transport import SyncTransport
from consentry_client.vocabulary import DirectiveKind, Proof

_ATTEMPTS_MAX = 100


class IntakeOptions(TypedDict, total=False):
    """Keywords of both intake clients.

    Attributes:
        tls: Files for mutual TLS; needed for TCP.
        timeout_seconds: Longest time for one request, its retries included (10).
        attempts_max: Most calls for one request, 1 to 100 (5).
        monotonic: Clock in seconds, for tests.
        jitter: A random number from 0 to 1, for tests.
    """

    tls: TlsFiles | None
    timeout_seconds: float
    attempts_max: int
    monotonic: Callable[[], float]
    jitter: Callable[[], float]


def resolve_intake_settings(options: IntakeOptions) -> IntakeSettings:
    """Checks how hard an intake client shall try.

    Raises:
        ConfigurationError: A number is out of its range.
        TypeError: A keyword that no intake client has.
    """
    for name in options:
        if name not in IntakeOptions.__annotations__:
            raise TypeError(f"an intake client has no keyword {name!r}")
    settings = IntakeSettings(
        timeout_seconds=options.get("timeout_seconds", 10.0),
        attempts_max=options.get("attempts_max", 5),
        monotonic=options.get("monotonic", time.monotonic),
        jitter=options.get("jitter", random.random),
    )
    require_duration("timeout_seconds", settings.timeout_seconds)
    require_count("attempts_max", settings.attempts_max, _ATTEMPTS_MAX)
    return settings


class IntakeClient:
    """Hands people's requests to the feed. When a method returns, the request is in the log; every failure raises.

    A request that finds no feed is sent again with the same idempotency key, a few times and with growing random
    pauses, within its deadline.

    Args:
        address: `unix:///path` or, with `tls`, `host:port`; default: the variable CONSENTRY_INTAKE_ADDRESS.
        sleep: Lets time pass, for tests.
        options: See `IntakeOptions`.

    Raises:
        ConfigurationError: What it is made with cannot work.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
        **options: Unpack[IntakeOptions],
    ) -> None:
        self._settings = resolve_intake_settings(options)
        self._sleep = sleep
        self._transport = SyncTransport(
            resolve_endpoint(address, INTAKE_ADDRESS_VARIABLE, os.environ, options.get("tls"))
        )

    def opt_out(self, subject: Identifier, purpose: str = "*", **options: Unpack[DirectiveOptions]) -> Acceptance:
        """Records that a person does not want a purpose, or any.

        Args:
            subject: Who.
            purpose: Name of a purpose; `*` is all of them.
            options: See `DirectiveOptions`.

        Raises:
            IntakeError: It was not accepted, or nobody knows: see its `outcome_unknown`.
        """
        return self.record(DirectiveKind.OPT_OUT, subject, purpose, **options)

    def grant(self, subject: Identifier, purpose: str, **options: Unpack[GrantOptions]) -> Acceptance:
        """Records that a person consents to a purpose; how much it lifts depends on its proof.

        Raises:
            IntakeError: It was not accepted, or nobody knows: see its `outcome_unknown`.
        """
        return self.record(DirectiveKind.GRANT, subject, purpose, **options)

    def record(
        self, kind: DirectiveKind, subject: Identifier, purpose: str, **options: Unpack[GrantOptions]
    ) -> Acceptance:
        """Records a directive of any kind; what belongs to grants is refused for the others.

        Raises:
            IntakeError: It was not accepted, or nobody knows: see its `outcome_unknown`.
        """
        return self._run(record_directive(self._settings, kind, subject, purpose, options))

    def link(self, left: Identifier, right: Identifier, proof: Proof, **options: Unpack[SendOptions]) -> Acceptance:
        """Records that two identifiers are one person: denials are shared at once, grants only as far as proven.

        Raises:
            IntakeError: It was not accepted, or nobody knows: see its `outcome_unknown`.
        """
        return self._run(record_link(self._settings, left, right, proof, options))

    def receipt(
        self,
        seq: int | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Receipt:
        """Fetches the proof that a request of this source is in the log.

        Args:
            seq: Of its token: `acceptance.token.seq`.
            idempotency_key: Instead of it; also finds a request that was refused.
            timeout_seconds: Deadline instead of the client's.

        Raises:
            IntakeError: There is none: ENTRY_UNKNOWN where this source has no such request.
        """
        return self._run(fetch_receipt(self._settings, seq, idempotency_key, timeout_seconds))

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.endpoint.target})"

    def _run(self, course: IntakeCourse[A]) -> A:
        try:
            step = next(course)
            while True:
                step = course.send(
                    self._sleep(step.seconds) if isinstance(step, Pause) else self._transport.invoke(step)
                )
        except StopIteration as end:
            result: A = end.value
            return result
