"""The decorator."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from consentry_client import AsyncClient, Client, ConsentDenied, Reason, email, requires_purpose
from consentry_client.testing import FakeSidecar

ADA, BOB = "ada@example.com", "bob@example.com"


def subject_of(address: str, *_: Any, **__: Any) -> Any:
    return email(address)


def test_requires_purpose_of_plain_function_runs_it_only_when_allowed(sidecar: FakeSidecar) -> None:
    ran = []
    with Client(sidecar.address, timeout_seconds=20) as client:

        @requires_purpose("marketing", subject=subject_of, client=client)
        def send(address: str, text: str = "") -> str:
            """Sends."""
            ran.append(address)
            return text

        sidecar.allow(email(ADA), "marketing")
        assert send(ADA, text="hello") == "hello"
        with pytest.raises(ConsentDenied) as caught:
            send(BOB)
    assert ran == [ADA]
    assert caught.value.reason == Reason.NO_CONSENT_SUBJECT_UNKNOWN
    assert (send.__name__, send.__doc__) == ("send", "Sends.")


async def test_requires_purpose_of_async_function_runs_it_only_when_allowed(sidecar: FakeSidecar) -> None:
    ran = []
    async with AsyncClient(sidecar.address, timeout_seconds=20) as client:

        @requires_purpose(["marketing", "analytics"], subject=subject_of, client=lambda: client)
        async def send(address: str) -> int:
            ran.append(address)
            return len(ran)

        sidecar.allow(email(ADA), ["marketing", "analytics"])
        sidecar.allow(email(BOB), "marketing")
        assert await send(ADA) == 1
        with pytest.raises(ConsentDenied):
            await send(BOB)
    assert ran == [ADA]


def test_requires_purpose_without_sidecar_does_not_run_the_function() -> None:
    with Client("unix:///nowhere/at/all.sock", timeout_seconds=20) as client:

        @requires_purpose("marketing", subject=subject_of, client=client)
        def send(address: str) -> None:
            pytest.fail("it ran")

        with pytest.raises(ConsentDenied) as caught:
            send(ADA)
    assert caught.value.reason == "CLIENT_UNAVAILABLE"
    assert ADA not in str(caught.value)


def test_requires_purpose_whose_subject_is_not_one_does_not_run_the_function(sidecar: FakeSidecar) -> None:
    with Client(sidecar.address) as client:

        @requires_purpose("marketing", subject=lambda address: address, client=client)
        def send(address: str) -> None:
            pytest.fail("it ran")

        with pytest.raises(TypeError) as caught:
            send(ADA)
    assert ADA not in str(caught.value)


def test_requires_purpose_with_client_of_the_other_kind_fails_when_decorating() -> None:
    def plain() -> None: ...

    async def later() -> None: ...

    async def items() -> AsyncIterator[int]:
        yield 1

    sync_client, async_client = Client("unix:///x"), AsyncClient("unix:///x")
    with pytest.raises(TypeError, match="needs Client"):
        requires_purpose("p", subject=subject_of, client=async_client)(plain)
    with pytest.raises(TypeError, match="needs AsyncClient"):
        requires_purpose("p", subject=subject_of, client=sync_client)(later)
    with pytest.raises(TypeError, match="async generator"):
        requires_purpose("p", subject=subject_of, client=async_client)(items)


def test_requires_purpose_with_maker_of_the_other_kind_fails_when_called() -> None:
    @requires_purpose("p", subject=subject_of, client=lambda: AsyncClient("unix:///x"))
    def send(address: str) -> None:
        pytest.fail("it ran")

    with pytest.raises(TypeError, match="needs Client"):
        send(ADA)
