"""A fake sidecar, a server of raw bytes, and both clients."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from consentry_client.testing import FakeIntake, FakeSidecar

from tests.integration.client.asker import MAKE_ASKER, MAKE_SENDER, Asker, Sender
from tests.integration.client.raw_server import RawServer


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    with FakeSidecar() as fake:
        yield fake


@pytest.fixture
def intake(sidecar: FakeSidecar) -> Iterator[FakeIntake]:
    with FakeIntake(sidecar) as fake:
        yield fake


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a socket, which pytest's own folders may not be."""
    with tempfile.TemporaryDirectory(prefix="consentry-") as folder:
        yield Path(folder) / "raw.sock"


@pytest.fixture
def raw(socket_path: Path) -> Iterator[RawServer]:
    with RawServer(socket_path) as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients a case is seen with."""
    return str(request.param)


@pytest.fixture
async def make_asker(kind: str) -> AsyncIterator[Callable[..., Asker]]:
    """Makes clients that are closed in the end. Their deadline is long: only cases about deadlines set another."""
    made: list[Asker] = []

    def make(address: str, **options: Any) -> Asker:
        made.append(MAKE_ASKER[kind](address, **{"timeout_seconds": 20.0, **options}))
        return made[-1]

    yield make
    for asker in made:
        await asker.close()


@pytest.fixture
async def asker(make_asker: Callable[..., Asker], sidecar: FakeSidecar) -> Asker:
    """A client of the fake sidecar."""
    return make_asker(sidecar.address)


@pytest.fixture
async def make_sender(kind: str) -> AsyncIterator[Callable[..., Sender]]:
    """Makes intake clients that do not sleep and are closed in the end."""
    made: list[Sender] = []

    def make(address: str, **options: Any) -> Sender:
        made.append(MAKE_SENDER[kind](address, **options))
        return made[-1]

    yield make
    for sender in made:
        await sender.close()


@pytest.fixture
async def sender(make_sender: Callable[..., Sender], intake: FakeIntake) -> Sender:
    """An intake client of the fake intake."""
    return make_sender(intake.address)
