"""The asyncio client of the intake: the same names and the same courses as the blocking one, with `await`."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, Unpack

from consentry_client.async_transport import AsyncTransport
from consentry_client.endpoint import resolve_endpoint
from consentry_client.exchange import Pause
from consentry_client.intake import IntakeOptions, resolve_intake_settings
from consentry_client.intake_course import (
    A,
    Acceptance,
    DirectiveOptions,
    GrantOptions,
    IntakeCourse,
    SendOptions,
    record_directive,
    record_link,
)
from consentry_client.receipt_course import Receipt, fetch_receipt
from consentry_client.settings import INTAKE_ADDRESS_VARIABLE
from consentry_client.subject import Identifier
from consentry_client.vocabulary import DirectiveKind, Proof


class AsyncIntakeClient:
    """Hands people's requests to the feed; see `IntakeClient`. For any number of tasks of one event loop.

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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **options: Unpack[IntakeOptions],
    ) -> None:
        self._settings = resolve_intake_settings(options)
        self._sleep = sleep
        self._transport = AsyncTransport(
            resolve_endpoint(address, INTAKE_ADDRESS_VARIABLE, os.environ, options.get("tls"))
        )

    async def opt_out(self, subject: Identifier, purpose: str = "*", **options: Unpack[DirectiveOptions]) -> Acceptance:
        """Records that a person does not want a purpose, or any; see `IntakeClient.opt_out`."""
        return await self.record(DirectiveKind.OPT_OUT, subject, purpose, **options)

    async def grant(self, subject: Identifier, purpose: str, **options: Unpack[GrantOptions]) -> Acceptance:
        """Records that a person consents to a purpose; see `IntakeClient.grant`."""
        return await self.record(DirectiveKind.GRANT, subject, purpose, **options)

    async def record(
        self, kind: DirectiveKind, subject: Identifier, purpose: str, **options: Unpack[GrantOptions]
    ) -> Acceptance:
        """Records a directive of any kind; see `IntakeClient.record`."""
        return await self._run(record_directive(self._settings, kind, subject, purpose, options))

    async def link(
        self, left: Identifier, right: Identifier, proof: Proof, **options: Unpack[SendOptions]
    ) -> Acceptance:
        """Records that two identifiers are one person; see `IntakeClient.link`."""
        return await self._run(record_link(self._settings, left, right, proof, options))

    async def receipt(
        self,
        seq: int | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Receipt:
        """Fetches the receipt of a request of this source; see `IntakeClient.receipt`."""
        return await self._run(fetch_receipt(self._settings, seq, idempotency_key, timeout_seconds))

    async def close(self) -> None:
        """Closes the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.endpoint.target})"

    async def _run(self, course: IntakeCourse[A]) -> A:
        try:
            step = next(course)
            while True:
                if isinstance(step, Pause):
                    step = course.send(await self._sleep(step.seconds))
                else:
                    step = course.send(await self._transport.invoke(step))
        except StopIteration as end:
            result: A = end.value
            return result
