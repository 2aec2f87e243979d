"""The copied log: whatever is done to it is found, by its checksums or, where somebody mends those, by the tree that was signed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.findings import Finding, Severity
from auditor.folder import ROOT_KEY_FILE_NAME, TRUST_FILE_NAME, open_folder
from auditor.log_copy import FILE_NAME, CopiedEntry, LogCopy, LogCopyWriter
from auditor.verify import verify_folder
from consent.event import ErasureEvent, EventType
from consent.eventlog.keys import format_verifier_key
from consent.eventlog.merkle import commit
from consent.eventlog.trust import seal_trust
from tests.fakes.audit_material import ROOT_KEY
from tests.fakes.log_builder import LogBuilder, token_of

Entries = list[CopiedEntry]


@pytest.fixture
def log() -> LogBuilder:
    log = LogBuilder()
    log.append(log.next_epoch(), *(log.directive(f"person-{number}") for number in range(6)))
    return log


def entries_of(log: LogBuilder) -> Entries:
    return [
        CopiedEntry(seq, entry.type_byte, entry.opening, entry.event_bytes, entry.commitment, entry.attestations)
        for seq, entry in enumerate(log.entries, 1)
    ]


def verify(path: Path, log: LogBuilder, *runs: tuple[Entries, bytes]) -> list[Finding]:
    """Write runs of entries, each with its checkpoint (none where it is empty), and verify what that makes."""
    (path / TRUST_FILE_NAME).write_bytes(seal_trust(log.trust, ROOT_KEY))
    (path / ROOT_KEY_FILE_NAME).write_text(format_verifier_key(ROOT_KEY.verifier_key) + "\n")
    writer = LogCopyWriter(path / FILE_NAME)
    for entries, note in runs:
        writer.append(entries)
        if note:
            writer.seal(note)
    writer.close()
    return list(verify_folder(open_folder(path)).findings.listed)


def reasons(findings: list[Finding]) -> list[str]:
    return [found.reason for found in findings]


def renumbered(entries: Entries) -> Entries:
    return [entry._replace(seq=seq) for seq, entry in enumerate(entries, 1)]


def test_verify_log_fetched_in_several_runs_is_clean(tmp_path: Path, log: LogBuilder) -> None:
    first = entries_of(log), log.sign()
    log.append(log.directive("later"))
    second = entries_of(log)[first[0][-1].seq :], log.sign()
    assert verify(tmp_path, log, first, second, ([], log.sign())) == []


MUTATIONS: dict[str, Callable[[Entries], Entries]] = {
    "dropped": lambda entries: renumbered(entries[:2] + entries[3:]),
    "repeated": lambda entries: renumbered(entries[:3] + entries[2:]),
    "reordered": lambda entries: renumbered([*entries[:2], entries[3], entries[2], *entries[4:]]),
    "another opening": lambda entries: [*entries[:2], entries[2]._replace(opening=bytes(32)), *entries[3:]],
    "cut": lambda entries: entries[:-1],
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_verify_log_with_other_entries_does_not_hash_to_what_was_signed(
    tmp_path: Path, log: LogBuilder, mutation: str
) -> None:
    found = reasons(verify(tmp_path, log, (MUTATIONS[mutation](entries_of(log)), log.sign())))
    assert found
    assert set(found) <= {"ROOT_MISMATCH", "ENTRIES_MISSING"}


def test_verify_log_that_was_rewritten_between_two_fetches_names_where(tmp_path: Path, log: LogBuilder) -> None:
    first = entries_of(log), log.sign()
    forked = LogBuilder()
    forked.append(forked.next_epoch(), *(forked.directive(f"somebody-{number}") for number in range(8)))
    second = entries_of(forked)[len(first[0]) :], forked.sign()
    (found,) = verify(tmp_path, log, first, second)
    assert found.reason == "ROOT_MISMATCH"
    assert found.place == f"seq {len(first[0]) + 1}"


def test_verify_log_signed_by_a_stranger_is_found(tmp_path: Path, log: LogBuilder) -> None:
    stranger = LogBuilder("log.example.org/stranger")
    stranger.append(*(entry.event for entry in log.logged))
    assert reasons(verify(tmp_path, log, (entries_of(log), stranger.sign()))) == ["CHECKPOINT_REJECTED"]


def test_verify_log_without_checkpoint_or_with_entries_behind_it(tmp_path: Path, log: LogBuilder) -> None:
    first = entries_of(log), log.sign()
    log.append(log.directive("later"))
    rest = entries_of(log)[len(first[0]) :], b""
    (tmp_path / "a").mkdir()
    assert reasons(verify(tmp_path / "a", log, first, rest)) == ["ENTRIES_BEYOND_CHECKPOINT"]
    (tmp_path / "b").mkdir()
    assert reasons(verify(tmp_path / "b", log, (entries_of(log), b""))) == ["CHECKPOINT_MISSING"]


def test_verify_damaged_copy_names_the_byte(tmp_path: Path, log: LogBuilder) -> None:
    verify(tmp_path, log, (entries_of(log), log.sign()))
    path = tmp_path / FILE_NAME
    ends = [item.end for item in LogCopy(path).items()]
    content = bytearray(path.read_bytes())
    content[ends[2] + 20] ^= 1
    path.write_bytes(content)
    first, *_ = verify_folder(open_folder(tmp_path)).findings.listed
    assert first.reason == "LOG_COPY_DAMAGED"
    assert f"byte {ends[2]} " in first.text


def test_verify_erased_payload_is_explained_by_the_erasure_only(tmp_path: Path, log: LogBuilder) -> None:
    log.append(
        ErasureEvent(
            origin=log.origin, source="feed", tokens=(token_of("person-1"),), seqs=(3,), occurred_at_ms=log.now_ms
        )
    )
    entries = entries_of(log)

    def erase(entry: CopiedEntry) -> CopiedEntry:
        commitment = commit(entry.opening, entry.event_bytes)
        return entry._replace(opening=b"", event_bytes=b"", commitment=commitment)

    (tmp_path / "a").mkdir()
    assert verify(tmp_path / "a", log, ([*entries[:2], erase(entries[2]), *entries[3:]], log.sign())) == []
    (tmp_path / "b").mkdir()
    (found,) = verify(tmp_path / "b", log, ([*entries[:3], erase(entries[3]), *entries[4:]], log.sign()))
    assert (found.reason, found.place) == ("PAYLOAD_MISSING", "seq 4")


def test_verify_consent_that_its_source_has_not_signed_is_refused(tmp_path: Path, log: LogBuilder) -> None:
    from consent.vocabulary.directive import Kind

    log.append(log.directive("person-1", kind=int(Kind.GRANT), source="web"))
    entries = entries_of(log)
    assert entries[-1].type_byte == EventType.DIRECTIVE
    unsigned = entries[-1]._replace(attestations=())
    (found,) = verify(tmp_path, log, ([*entries[:-1], unsigned], log.sign()))
    assert found.reason == "EVENT_REFUSED"
    assert "ATTESTATION_MISSING" in found.text


def test_verify_policy_out_of_order_and_unbegun_epoch_are_refused(tmp_path: Path, log: LogBuilder) -> None:
    log.append(log.directive("person-1", key_epoch=3))
    (found,) = verify(tmp_path, log, (entries_of(log), log.sign()))
    assert (found.reason, found.severity) == ("EVENT_REFUSED", Severity.FINDING)
    assert "key epoch 3" in found.text
