"""The witness's memory: durable, never lost in silence."""

from pathlib import Path

import pytest

from consent.eventlog.checkpoint import Checkpoint
from consent.eventlog.witness import SeenTree
from witness.errors import MemoryUnusable
from witness.memory import EVIDENCE_FOLDER, FILE_NAME, create_memory, load_memory

ORIGIN, ROOT = "log.example/1", bytes(range(32))


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    create_memory(tmp_path)
    memory = load_memory(tmp_path)
    memory.keep(Checkpoint(ORIGIN, 5, ROOT))
    memory.keep(Checkpoint("log.example/2", 1, ROOT))
    assert load_memory(tmp_path).trees == {ORIGIN: SeenTree(5, ROOT), "log.example/2": SeenTree(1, ROOT)}
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_missing_memory_is_never_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(MemoryUnusable, match="missing"):
        load_memory(tmp_path)


def test_existing_memory_is_never_overwritten(tmp_path: Path) -> None:
    create_memory(tmp_path)
    load_memory(tmp_path).keep(Checkpoint(ORIGIN, 5, ROOT))
    with pytest.raises(MemoryUnusable, match="exists"):
        create_memory(tmp_path)
    assert ORIGIN in load_memory(tmp_path).trees


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"logs": []}', '{"format": "x", "logs": {}}', '{"logs": {"a": {"size": true, "root_hash": ""}}}',
     '{"format": "consentry/witness-memory/v1", "logs": {"a": {"size": -1, "root_hash": "AA=="}}}', "[" * 100_000],
)  # fmt: skip
def test_damaged_memory_stops_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(MemoryUnusable):
        load_memory(tmp_path)


def test_nothing_is_taken_for_kept_that_could_not_be_written(tmp_path: Path) -> None:
    create_memory(tmp_path)
    memory = load_memory(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    tmp_path.rmdir()
    with pytest.raises(MemoryUnusable):
        memory.keep(Checkpoint(ORIGIN, 5, ROOT))
    assert memory.trees == {}


def test_evidence_is_kept_once_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("witness.memory.MAX_EVIDENCE_FILES", 2)
    create_memory(tmp_path)
    memory = load_memory(tmp_path)
    paths = [memory.keep_evidence(body) for body in (b"one", b"one", b"two", b"three")]
    assert paths[0] == paths[1]
    assert paths[3] is None
    assert {path.read_bytes() for path in (tmp_path / EVIDENCE_FOLDER).iterdir()} == {b"one", b"two"}
