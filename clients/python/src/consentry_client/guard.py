"""A decorator that lets a function run only where its purpose is allowed."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from consentry_client.async_client import AsyncClient
from consentry_client.client import Client
from consentry_client.question import AskOptions
from consentry_client.subject import SubjectLike

P = ParamSpec("P")
R = TypeVar("R")
AnyClient = Client | AsyncClient


def requires_purpose(
    purpose: str | Iterable[str],
    *,
    subject: Callable[..., SubjectLike],
    client: AnyClient | Callable[[], AnyClient],
    **options: Unpack[AskOptions],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Guards a function: before each run it asks, and where the answer is a deny the function does not run.

    Args:
        purpose: One purpose or several, all of which must be allowed.
        subject: Gets the function's arguments and returns whom they are about.
        client: `Client` for a plain function, `AsyncClient` for an `async def`; or a function that returns it, for a
            client that is made later than the module is loaded.
        options: As for `check`.

    Raises:
        ConsentDenied: From the guarded function, where the answer is a deny.
        TypeError: The client is of the other kind than the function, or the function is an async generator.
    """
    purposes = purpose if isinstance(purpose, str) else tuple(purpose)

    def guard(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isasyncgenfunction(function):
            raise TypeError("an async generator cannot be guarded; guard the function that makes its items")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                asked = _resolve_client(client, AsyncClient)
                await asked.require(subject(*args, **kwargs), purposes, **options)
                return await cast(Awaitable[Any], function(*args, **kwargs))

            _refuse_other_kind(client, AsyncClient)
            return cast(Callable[P, R], run_async)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            asked = _resolve_client(client, Client)
            asked.require(subject(*args, **kwargs), purposes, **options)
            return function(*args, **kwargs)

        _refuse_other_kind(client, Client)
        return run

    return guard


_C = TypeVar("_C", Client, AsyncClient)


def _resolve_client(client: AnyClient | Callable[[], AnyClient], kind: type[_C]) -> _C:
    resolved = client if isinstance(client, Client | AsyncClient) else client()
    if not isinstance(resolved, kind):
        raise TypeError(f"this function needs {kind.__name__}, not {type(resolved).__name__}")
    return resolved


def _refuse_other_kind(client: AnyClient | Callable[[], AnyClient], kind: type[_C]) -> None:
    """Fails when the module is loaded rather than at the first call, where the client is there already."""
    if isinstance(client, Client | AsyncClient):
        _resolve_client(client, kind)
