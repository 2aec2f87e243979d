"""One way to drive both clients, so that every case is seen with each."""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Protocol, cast

from consentry_client import (
    Acceptance,
    AsyncClient,
    AsyncIntakeClient,
    Client,
    Decision,
    Explanation,
    IntakeClient,
    Receipt,
    SidecarStatus,
    SubjectLike,
)

Purposes = str | Iterable[str]


class Asker(Protocol):
    """The methods of a client, all of them awaited."""

    async def check(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Decision: ...
    async def check_many(self, subjects: Iterable[Any], purpose: Purposes, **options: Any) -> list[Decision]: ...
    async def require(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Decision: ...
    async def explain(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Explanation: ...
    async def status(self, **options: Any) -> SidecarStatus: ...
    async def filter_allowed(self, items: Iterable[Any], **options: Any) -> list[Any]: ...
    async def close(self) -> None: ...


class SyncAsker:
    """Drives the blocking client from a thread, as a service would."""

    def __init__(self, address: str, **options: Any) -> None:
        self.client = Client(address, **options)

    async def check(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Decision:
        return await asyncio.to_thread(self.client.check, subject, purpose, **options)

    async def check_many(self, subjects: Iterable[Any], purpose: Purposes, **options: Any) -> list[Decision]:
        return await asyncio.to_thread(self.client.check_many, subjects, purpose, **options)

    async def require(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Decision:
        return await asyncio.to_thread(self.client.require, subject, purpose, **options)

    async def explain(self, subject: SubjectLike, purpose: Purposes, **options: Any) -> Explanation:
        return await asyncio.to_thread(self.client.explain, subject, purpose, **options)

    async def status(self, **options: Any) -> SidecarStatus:
        return await asyncio.to_thread(self.client.status, **options)

    async def filter_allowed(self, items: Iterable[Any], **options: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self.client.filter_allowed(items, **options)))

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)


class AsyncAsker:
    """Drives the asyncio client."""

    def __init__(self, address: str, **options: Any) -> None:
        self.client = AsyncClient(address, **options)
        self.check = self.client.check
        self.check_many = self.client.check_many
        self.require = self.client.require
        self.explain = self.client.explain
        self.status = self.client.status
        self.close = self.client.close

    async def filter_allowed(self, items: Iterable[Any] | AsyncIterable[Any], **options: Any) -> list[Any]:
        return [item async for item in self.client.filter_allowed(items, **options)]


MAKE_ASKER: dict[str, Callable[..., Asker]] = {"sync": SyncAsker, "async": cast(Callable[..., Asker], AsyncAsker)}


class Sender(Protocol):
    """The methods of an intake client, all of them awaited."""

    async def opt_out(self, *arguments: Any, **options: Any) -> Acceptance: ...
    async def grant(self, *arguments: Any, **options: Any) -> Acceptance: ...
    async def record(self, *arguments: Any, **options: Any) -> Acceptance: ...
    async def link(self, *arguments: Any, **options: Any) -> Acceptance: ...
    async def receipt(self, *arguments: Any, **options: Any) -> Receipt: ...
    async def close(self) -> None: ...


class SyncSender:
    """Drives the blocking intake client from a thread."""

    def __init__(self, address: str, **options: Any) -> None:
        self.client = IntakeClient(address, sleep=lambda _: None, **options)

    async def opt_out(self, *arguments: Any, **options: Any) -> Acceptance:
        return await asyncio.to_thread(self.client.opt_out, *arguments, **options)

    async def grant(self, *arguments: Any, **options: Any) -> Acceptance:
        return await asyncio.to_thread(self.client.grant, *arguments, **options)

    async def record(self, *arguments: Any, **options: Any) -> Acceptance:
        return await asyncio.to_thread(self.client.record, *arguments, **options)

    async def link(self, *arguments: Any, **options: Any) -> Acceptance:
        return await asyncio.to_thread(self.client.link, *arguments, **options)

    async def receipt(self, *arguments: Any, **options: Any) -> Receipt:
        return await asyncio.to_thread(self.client.receipt, *arguments, **options)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)


class AsyncSender:
    """Drives the asyncio intake client."""

    def __init__(self, address: str, **options: Any) -> None:
        async def do_not_wait(_: float) -> None: ...

        self.client = AsyncIntakeClient(address, sleep=do_not_wait, **options)
        self.opt_out = self.client.opt_out
        self.grant = self.client.grant
        self.record = self.client.record
        self.link = self.client.link
        self.receipt = self.client.receipt
        self.close = self.client.close


MAKE_SENDER: dict[str, Callable[..., Sender]] = {"sync": SyncSender, "async": cast(Callable[..., Sender], AsyncSender)}
