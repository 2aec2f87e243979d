from pathlib import Path

import pytest

from feed.errors import LogWriteFailed
from feed.grpc_api.progress import ProgressBook, SidecarProgress
from feed.log_store.port import Acknowledgement
from feed.log_store.sqlite import SqliteLog
from tests.fakes.feed_log import open_store


def make_ack(sidecar_id: str, size: int) -> Acknowledgement:
    return Acknowledgement(sidecar_id, size, size * 10, size * 10 + 1)


async def test_progress_is_known_at_once_and_after_a_restart(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store)
    book.acknowledge(make_ack("pod-2", 5))
    book.acknowledge(make_ack("pod-1", 3))
    expected = [SidecarProgress("pod-1", 3, 31), SidecarProgress("pod-2", 5, 51)]
    assert book.progress() == expected
    await book.close()

    again = ProgressBook(store)
    await again.load()
    assert again.progress() == expected
    await again.close()
    await store.close()


async def test_progress_never_goes_back(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store)
    for size in (3, 7, 5):
        book.acknowledge(make_ack("pod-1", size))
    assert book.progress() == [SidecarProgress("pod-1", 7, 71)]
    await book.close()
    assert await store.load_acknowledgements() == [make_ack("pod-1", 7)]
    await store.close()


async def test_progress_counts_a_sidecar_as_connected_while_a_stream_is_open(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store)
    with book.open_stream("pod-1"):
        with book.open_stream("pod-1"):
            assert book.connected_count == 1
        assert book.progress() == [SidecarProgress("pod-1", connected=True)]
    assert book.connected_count == 0
    assert book.progress() == [SidecarProgress("pod-1")]
    await store.close()


async def test_progress_refusal_is_shown_until_the_sidecar_has_come_further(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store)
    book.acknowledge(make_ack("pod-1", 3))
    book.refuse("pod-1", "ROOT_MISMATCH")
    book.acknowledge(make_ack("pod-1", 3))
    assert book.progress() == [SidecarProgress("pod-1", 3, 31, last_nack_reason="ROOT_MISMATCH")]
    book.acknowledge(make_ack("pod-1", 4))
    assert book.progress() == [SidecarProgress("pod-1", 4, 41)]
    await book.close()
    await store.close()


async def test_progress_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store)

    async def fail(self: SqliteLog, acknowledgements: object) -> None:
        raise LogWriteFailed("SQLite cannot write: SQLITE_FULL")

    book.acknowledge(make_ack("pod-1", 3))
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLog, "save_acknowledgements", fail)
        await book.save()
    assert [record.message for record in caplog.records] == ["acknowledgements cannot be kept"]
    assert await store.load_acknowledgements() == []

    await book.close()
    assert await store.load_acknowledgements() == [make_ack("pod-1", 3)]
    await store.close()


async def test_progress_is_written_by_itself_soon(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    book = ProgressBook(store, save_seconds=0.001)
    book.acknowledge(make_ack("pod-1", 3))
    saving = book._saving
    assert saving is not None
    await saving
    assert await store.load_acknowledgements() == [make_ack("pod-1", 3)]
    await store.close()
