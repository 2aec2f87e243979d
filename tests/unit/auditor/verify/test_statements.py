"""What the log says about journals, and records that do not fit the log, however well they are sealed and signed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.findings import Severity
from auditor.verify import verify_folder
from consent.decision_record import Situation, format_record, format_situation, parse_record
from consent.event import DisposalEvent, JournalHeadsEvent, RetireEvent
from consent.eventlog.journal_head import (
    DisposalGround,
    HeadKind,
    JournalDisposal,
    JournalHead,
    format_head,
    hash_head,
    sign_disposal,
    sign_head,
)
from journal.format import FrameKind, format_segment_name
from tests.fakes.audit_material import JournalBuilder, enrol, log_heads, sidecar_key
from tests.fakes.audited_installation import HEAD_MS, Installation
from tests.fakes.journal_material import NOW_MS, make_call

MINUTE_MS = 60_000


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "audit")


def found_in(installation: Installation, severity: Severity = Severity.FINDING, *, with_key: bool = True) -> list[str]:
    folder = installation.write() if with_key else installation.write(None)
    listed = verify_folder(folder).findings.listed
    return [found.reason for found in listed if found.severity is severity]


def test_head_signed_by_somebody_else_is_found(installation: Installation) -> None:
    forged = replace(installation.current.heads[-1], number=2, sidecar_id="pod-1")
    log_heads(installation.log, [sign_head(forged, sidecar_key("pod-9"), installation.log.origin)])
    assert found_in(installation) == ["HEAD_NOT_SIGNED"]


def test_head_of_a_sidecar_that_is_not_enrolled_is_found(installation: Installation) -> None:
    stranger = JournalBuilder(installation.path, installation.log.origin, "pod-9")
    log_heads(installation.log, [stranger.head()])
    assert found_in(installation) == ["HEAD_NOT_SIGNED"]


def test_two_heads_of_one_number_are_a_fork(installation: Installation) -> None:
    twin = replace(installation.current.heads[-1], at_ms=NOW_MS)
    log_heads(installation.log, [sign_head(twin, installation.current.key, installation.log.origin)])
    assert sorted(found_in(installation)) == ["HEAD_DIFFERS", "HEAD_FORKED"]
    assert found_in(installation, with_key=False) == ["HEAD_FORKED"]


def test_the_same_head_logged_twice_is_nothing(installation: Installation) -> None:
    log_heads(installation.log, installation.current.heads[-1:])
    assert found_in(installation) == []


def test_heads_passed_over_are_a_note_while_the_journal_has_them(installation: Installation) -> None:
    chain = installation.other
    for _ in range(3):
        chain.head(at_ms=installation.next_ms())
    installation.head(chain)
    assert found_in(installation) == []
    assert "HEAD_GAP" in found_in(installation, Severity.NOTE)
    assert found_in(installation, with_key=False) == []


def test_heads_that_are_nowhere_are_found(installation: Installation) -> None:
    chain = installation.other
    chain.heads.append(replace(chain.heads[-1], number=1))
    installation.head(chain)
    assert "HEAD_GAP" in found_in(installation)


def test_head_that_does_not_name_the_one_before_it_is_found(installation: Installation) -> None:
    chain = installation.other
    head = chain.head(at_ms=installation.next_ms(), previous_head_hash=bytes(range(32)))
    log_heads(installation.log, [head])
    # The frame in the journal says the same, which does not fit either.
    assert sorted(found_in(installation)) == ["HEAD_CHAIN_BROKEN", "HEAD_MISMATCH"]
    assert found_in(installation, with_key=False) == ["HEAD_CHAIN_BROKEN"]


@pytest.mark.parametrize(
    ("fields", "reason"), [({"decisions": 3}, "COUNT_MISMATCH"), ({"chain_hash": bytes(range(32))}, "HEAD_MISMATCH")]
)
def test_signed_head_that_does_not_fit_the_journal_is_found(
    installation: Installation, fields: dict[str, Any], reason: str
) -> None:
    chain = installation.other
    log_heads(installation.log, [chain.head(at_ms=installation.next_ms(), **fields)])
    assert reason in found_in(installation, with_key=False)


def test_journal_rewritten_by_whoever_has_its_keys_is_found(installation: Installation) -> None:
    """The sidecar's operator can open and seal every frame anew, and the log has what was there before."""
    chain = installation.other
    heads = chain.heads
    rewritten = JournalBuilder(installation.path, installation.log.origin, "pod-2", "d")
    installation.decide(rewritten, 4)
    rewritten.write_frame(bytes((FrameKind.HEAD,)) + format_head(heads[-1]))
    assert rewritten.path.name == format_segment_name(chain.chain_id, 0)
    for with_key in (True, False):
        found = verify_folder(installation.write() if with_key else installation.write(None)).findings.listed[0]
        assert found.reason == "HEAD_MISMATCH"
        assert "frames -1 to 3 are not those of head 0" in found.text


def test_head_in_the_journal_that_the_log_has_otherwise_is_found(installation: Installation) -> None:
    chain = installation.other
    head = chain.head(at_ms=installation.next_ms())
    log_heads(installation.log, [sign_head(replace(head, at_ms=head.at_ms + 1), chain.key, installation.log.origin)])
    assert found_in(installation) == ["HEAD_DIFFERS"]


def test_head_in_the_journal_signed_by_a_stranger_is_found(installation: Installation) -> None:
    chain = installation.other
    chain.key = sidecar_key("pod-9")
    head = replace(unsigned_head(chain), sidecar_id="pod-2")
    chain.write_frame(bytes((FrameKind.HEAD,)) + format_head(head))
    assert found_in(installation) == ["HEAD_NOT_SIGNED"]


def unsigned_head(chain: JournalBuilder) -> JournalHead:
    return JournalHead(
        sidecar_id=chain.sidecar_id,
        chain_id=chain.chain_id,
        number=len(chain.heads),
        kind=HeadKind.PERIODIC,
        at_ms=NOW_MS,
        previous_head_hash=hash_head(chain.heads[-1]),
        **chain.end(),
    )


def test_silence_between_heads_is_found_and_one_before_a_recovery_is_not(installation: Installation) -> None:
    chain = installation.other
    late = chain.head(at_ms=installation.next_ms() + 10 * MINUTE_MS)
    log_heads(installation.log, [late], late.at_ms)
    installation.log.now_ms = late.at_ms + HEAD_MS
    # Pod-1, which is enrolled too, has made none in all this time.
    assert sorted(found_in(installation)) == ["HEADS_SILENT", "HEADS_STOPPED"]


def test_heads_that_stop_are_found_unless_the_sidecar_is_gone(installation: Installation) -> None:
    installation.log.now_ms += 10 * MINUTE_MS
    assert found_in(installation) == ["HEADS_STOPPED", "HEADS_STOPPED"]
    for sidecar_id in ("pod-1", "pod-2"):
        event = RetireEvent(
            origin=installation.log.origin, source="feed", sidecar_id=sidecar_id, retired_at_ms=installation.log.now_ms
        )
        installation.log.append(event)
    assert found_in(installation) == []


def test_sidecar_that_ended_its_journal_and_did_not_come_back_is_a_note(installation: Installation) -> None:
    installation.head(installation.other, HeadKind.FINAL)
    installation.log.now_ms += 10 * MINUTE_MS
    report = verify_folder(installation.write())
    stopped = {
        (found.sidecar_id, found.severity) for found in report.findings.listed if found.reason == "HEADS_STOPPED"
    }
    assert stopped == {("pod-1", Severity.FINDING), ("pod-2", Severity.NOTE)}


def test_sidecar_that_never_made_a_head_is_found(installation: Installation) -> None:
    enrol(installation.log, "pod-3")
    installation.log.now_ms += 4 * MINUTE_MS
    assert found_in(installation) == []
    installation.log.now_ms += 2 * MINUTE_MS
    assert "NO_HEADS" in found_in(installation)


def test_chain_without_heads_is_a_note_while_it_is_young(installation: Installation) -> None:
    young = JournalBuilder(installation.path, installation.log.origin, "pod-2", "young")
    installation.decide(young, 2)
    assert found_in(installation) == []
    assert "CHAIN_UNLOGGED" in found_in(installation, Severity.NOTE)
    installation.log.now_ms += 4 * MINUTE_MS
    assert found_in(installation) == ["CHAIN_UNLOGGED"]


def test_disposed_segments_are_explained_by_the_log_alone(installation: Installation) -> None:
    chain = installation.ended
    name = format_segment_name(chain.chain_id, 0)
    path = chain.directory / name
    following = (chain.directory / format_segment_name(chain.chain_id, 1)).read_bytes()
    path.unlink()
    assert found_in(installation) == ["SEGMENT_MISSING"]
    disposal = JournalDisposal(
        sidecar_id="pod-1",
        chain_id=chain.chain_id,
        first_segment=0,
        last_segment=0,
        chain_hash=header_hash(following),
        decisions=9,
        oldest_ms=NOW_MS,
        newest_ms=NOW_MS,
        ground=DisposalGround.AGE,
        disposed_at_ms=NOW_MS,
    )
    signed = sign_disposal(disposal, chain.key, installation.log.origin)
    event = DisposalEvent(origin=installation.log.origin, source="feed", received_at_ms=NOW_MS, disposals=(signed,))
    installation.log.append(event)
    for with_key in (True, False):
        assert found_in(installation, with_key=with_key) == []
        assert "DISPOSED" in found_in(installation, Severity.NOTE, with_key=with_key)


def header_hash(segment_bytes: bytes) -> bytes:
    from journal.format import header_length, parse_header

    return parse_header(segment_bytes[: header_length(segment_bytes)]).previous_chain_hash


def test_record_that_stands_twice_is_found(installation: Installation) -> None:
    installation.other.write([installation.record(items=5)], 5)
    # A decision id of the second one is among those of the first.
    first = parse_record(installation.record()).call_id
    inside = (int.from_bytes(first, "big") - 5 * (1 << 64) + 3).to_bytes(16, "big")
    call = parse_record(installation.record())._replace(call_id=inside)
    installation.current.write([format_record(call)], 1)
    report = verify_folder(installation.write())
    (found,) = (found for found in report.findings.listed if found.severity is Severity.FINDING)
    assert found.reason == "RECORD_DUPLICATE"
    assert found.place.startswith(format_segment_name(installation.current.chain_id, 0))
    assert format_segment_name(installation.other.chain_id, 0) in found.text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"origin": "log.example.org/other"}, "FOREIGN_LOG"), ({"root_hash": bytes(32)}, "ROOT_DIFFERS")],
)
def test_record_decided_on_another_log_is_found(
    installation: Installation, fields: dict[str, object], reason: str
) -> None:
    log = installation.log
    situation = Situation(log.origin, log.size, log.frontier.root_hash(), 0, NOW_MS)
    call = make_call(5_000)._replace(situation=format_situation(replace(situation, **fields)))  # type: ignore[arg-type]
    installation.other.write([format_record(call)])
    assert found_in(installation) == [reason]


def test_record_of_a_larger_log_is_found_where_a_logged_head_came_after_it(installation: Installation) -> None:
    call = make_call(5_000)
    situation = Situation(installation.log.origin, 10_000, bytes(32), 0, NOW_MS)
    installation.other.write([format_record(call._replace(situation=format_situation(situation)))])
    assert found_in(installation) == []
    assert "RECORDS_AHEAD" in found_in(installation, Severity.NOTE)
    installation.head(installation.other)
    assert found_in(installation) == ["LOG_TOO_SHORT"]


def test_frame_that_counts_other_decisions_than_it_holds_is_found(installation: Installation) -> None:
    installation.other.write([installation.record()], 2)
    assert found_in(installation) == ["COUNT_MISMATCH"]


def test_record_that_nobody_can_read_is_found(installation: Installation) -> None:
    installation.other.write([b"\x01" + bytes(16) + b"no record"], 1)
    assert found_in(installation) == ["RECORD_UNREADABLE"]


def test_journal_heads_entry_in_the_log_is_read_by_its_receipt(installation: Installation) -> None:
    report = verify_folder(installation.write())
    logged = sum(
        len(entry.event.heads) for entry in installation.log.logged if isinstance(entry.event, JournalHeadsEvent)
    )
    assert report.log.heads == logged
