"""An audit folder: what is in it is read, and nothing is believed that the trust file's root has not signed."""

from pathlib import Path

import pytest

from auditor.errors import FolderUnusable, SegmentKeyMissing
from auditor.folder import TRUST_FILE_NAME, open_folder
from auditor.journals import KEYS_FILE_NAME
from consent.decision_record import parse_record
from tests.fakes.audit_material import AUDITOR, JournalBuilder, write_folder
from tests.fakes.journal_material import make_record
from tests.fakes.log_builder import LogBuilder


def test_journals_of_a_folder_yield_the_records_written(tmp_path: Path) -> None:
    log = LogBuilder()
    journal = JournalBuilder(tmp_path, log.origin)
    records = [make_record(number) for number in range(6)]
    journal.write(records[:2])
    journal.head()
    journal.begin_segment()
    journal.write(records[2:])
    folder = write_folder(tmp_path, log)
    (found,) = folder.journals()
    assert found.sidecar_id == "pod-1"
    calls = [at.call for at in found.calls(journal.chain_id)]
    assert calls == [parse_record(record) for record in records]


def test_frames_without_the_key_or_with_another_auditors_are_refused(tmp_path: Path) -> None:
    log = LogBuilder()
    journal = JournalBuilder(tmp_path, log.origin)
    journal.write([make_record(1)])
    write_folder(tmp_path, log)
    for key in (None, AUDITOR._replace(name="somebody-else")):
        (found,) = open_folder(tmp_path, key).journals()
        with pytest.raises(SegmentKeyMissing):
            list(found.frames((journal.chain_id, 0)))
    (journal.directory / KEYS_FILE_NAME).unlink()
    (found,) = open_folder(tmp_path, AUDITOR).journals()
    with pytest.raises(SegmentKeyMissing):
        list(found.frames((journal.chain_id, 0)))


def test_open_folder_with_a_changed_or_missing_trust_file_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, LogBuilder())
    path = tmp_path / TRUST_FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"acme", b"acne"))
    with pytest.raises(FolderUnusable, match="trust file"):
        open_folder(tmp_path)
    path.unlink()
    with pytest.raises(FolderUnusable, match="No such file"):
        open_folder(tmp_path)
