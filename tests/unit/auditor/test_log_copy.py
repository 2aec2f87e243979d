"""A copy of a log: read back as written, damage named, and taken up again after a kill."""

from pathlib import Path

import pytest

from auditor.errors import FolderUnusable, MalformedLogCopy
from auditor.log_copy import CopiedEntry, LogCopy, LogCopyWriter
from tests.fakes.log_builder import LogBuilder


@pytest.fixture
def log() -> LogBuilder:
    log = LogBuilder()
    log.append(log.next_epoch(), *(log.directive(f"person-{number}") for number in range(5)))
    return log


def entries_of(log: LogBuilder) -> list[CopiedEntry]:
    return [
        CopiedEntry(seq, entry.type_byte, entry.opening, entry.event_bytes, b"", entry.attestations)
        for seq, entry in enumerate(log.entries, 1)
    ]


def write(path: Path, log: LogBuilder) -> list[CopiedEntry]:
    entries, writer = entries_of(log), LogCopyWriter(path)
    writer.append(entries)
    writer.seal(log.sign())
    writer.close()
    return entries


def test_entries_of_a_copy_are_those_written_and_hash_to_the_signed_root(tmp_path: Path, log: LogBuilder) -> None:
    path = tmp_path / "log.copy"
    entries = write(path, log)
    copy = LogCopy(path)
    assert list(copy.entries()) == entries
    assert copy.checkpoint_note() == log.sign()
    assert [entry.read_event() for entry in copy.entries()] == [logged.event for logged in log.logged]
    assert path.stat().st_mode & 0o777 == 0o600


def test_entries_of_a_copy_with_any_byte_flipped_are_refused_or_cut(tmp_path: Path, log: LogBuilder) -> None:
    path = tmp_path / "log.copy"
    write(path, log)
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
        with pytest.raises(MalformedLogCopy):
            list(LogCopy(path).entries())


def test_writer_after_a_kill_goes_on_behind_the_last_checkpoint(tmp_path: Path, log: LogBuilder) -> None:
    path = tmp_path / "log.copy"
    write(path, log)
    sealed_size, sealed_bytes = log.size, path.stat().st_size
    log.append(*(log.directive(f"later-{number}") for number in range(3)))
    writer = LogCopyWriter(path)
    writer.append(entries_of(log)[sealed_size:])
    writer.close()
    for cut in (path.stat().st_size - 1, sealed_bytes + 3, sealed_bytes):
        with path.open("r+b") as file:
            file.truncate(cut)
        writer = LogCopyWriter(path)
        assert writer.size == sealed_size
        writer.append(entries_of(log)[sealed_size:])
        writer.seal(log.sign())
        writer.close()
        assert list(LogCopy(path).entries()) == entries_of(log)


def test_writer_refuses_an_entry_that_is_not_the_next_one(tmp_path: Path, log: LogBuilder) -> None:
    writer = LogCopyWriter(tmp_path / "log.copy")
    with pytest.raises(MalformedLogCopy, match="entry 2 comes where entry 1 is due"):
        writer.append(entries_of(log)[1:])
    writer.close()


def test_copy_of_something_else_or_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.copy"
    path.write_bytes(b"something else, long enough")
    with pytest.raises(MalformedLogCopy):
        list(LogCopy(path).entries())
    with pytest.raises(MalformedLogCopy):
        LogCopyWriter(path)
    with pytest.raises(FolderUnusable):
        list(LogCopy(tmp_path / "missing").entries())
