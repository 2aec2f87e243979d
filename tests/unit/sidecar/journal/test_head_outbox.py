"""Heads on their way to the feed: none is lost before it is logged, and none is sent for ever."""

from pathlib import Path

import pytest

from consent.eventlog.journal_head import HeadKind, JournalHead
from sidecar.journal.head_outbox import (
    LOGGED_FILE_NAME,
    MAX_WAITING,
    HeadOutbox,
    MalformedLoggedHeads,
    format_logged,
    parse_logged,
)
from sidecar.ports import LoggedPlace

CHAIN = bytes(range(16))
OTHER = bytes(16)


def make_head(
    number: int, kind: HeadKind = HeadKind.PERIODIC, chain_id: bytes = CHAIN, segment: int = 0
) -> JournalHead:
    return JournalHead(
        sidecar_id="pod-1",
        chain_id=chain_id,
        number=number,
        kind=kind,
        at_ms=number,
        segment=segment,
        frame=1,
        chain_hash=bytes(32),
        decisions=0,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LOGGED_FILE_NAME


def test_pending_gives_the_oldest_first_until_they_are_confirmed(path: Path) -> None:
    outbox, heads = HeadOutbox(path), [make_head(number) for number in range(5)]
    outbox.add(heads)
    outbox.add(heads[:2])
    assert outbox.pending(3) == heads[:3]
    outbox.confirm(heads[:2])
    assert outbox.pending(10) == heads[2:]
    assert outbox.logged(CHAIN) == LoggedPlace(number=1, segment=0, is_ended=False)
    assert outbox.logged(OTHER) is None


def test_logged_place_survives_a_restart_and_what_is_logged_is_not_taken_again(path: Path) -> None:
    heads = [make_head(0), make_head(1, HeadKind.SEGMENT_END), make_head(2, HeadKind.FINAL, segment=1)]
    HeadOutbox(path).confirm(heads)
    outbox = HeadOutbox(path)
    outbox.add([*heads, make_head(0, HeadKind.RECOVERY, OTHER)])
    assert [head.chain_id for head in outbox.pending(10)] == [OTHER]
    assert outbox.logged(CHAIN) == LoggedPlace(number=2, segment=1, is_ended=True)


def test_confirm_of_an_earlier_head_moves_nothing_back(path: Path) -> None:
    outbox = HeadOutbox(path)
    outbox.confirm([make_head(7, segment=3)])
    outbox.confirm([make_head(5, segment=2)])
    assert HeadOutbox(path).logged(CHAIN) == LoggedPlace(number=7, segment=3, is_ended=False)


def test_recovery_head_ends_a_chain(path: Path) -> None:
    outbox = HeadOutbox(path)
    outbox.confirm([make_head(7, HeadKind.RECOVERY)])
    assert outbox.logged(CHAIN) == LoggedPlace(number=7, segment=0, is_ended=True)


def test_heads_that_wait_too_long_are_thinned_where_a_later_one_covers_them(path: Path) -> None:
    outbox = HeadOutbox(path)
    outbox.add([make_head(0, HeadKind.RECOVERY, OTHER)])
    total = 3 * MAX_WAITING
    for number in range(total):
        outbox.add([make_head(number, HeadKind.SEGMENT_END if number % 100 == 1 else HeadKind.PERIODIC)])
    waiting = outbox.pending(total)
    assert len(waiting) <= MAX_WAITING
    numbers = {head.number for head in waiting if head.chain_id == CHAIN}
    assert {0, total - 1} | {number for number in range(total) if number % 100 == 1} <= numbers
    assert waiting[0].chain_id == OTHER
    assert [head.number for head in waiting[1:]] == sorted(numbers)


def test_confirm_on_a_disk_that_takes_nothing_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = HeadOutbox(tmp_path / "missing" / LOGGED_FILE_NAME)
    outbox.add([make_head(0)])
    outbox.confirm([make_head(0)])
    assert outbox.pending(10) == []
    assert "how far heads are logged cannot be kept" in caplog.text


def test_retain_forgets_chains_that_are_gone(path: Path) -> None:
    outbox = HeadOutbox(path)
    outbox.confirm([make_head(0), make_head(0, chain_id=OTHER)])
    outbox.add([make_head(1, chain_id=OTHER)])
    outbox.retain({CHAIN})
    assert HeadOutbox(path).logged(OTHER) is None
    assert HeadOutbox(path).logged(CHAIN) is not None
    # That segments are gone is no reason not to send what was said of them.
    assert outbox.pending(10) == [make_head(1, chain_id=OTHER)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"version": 2, "chains": {}}',
        b'{"version": 1, "chains": {"00": {"number": 0, "segment": 0, "is_ended": false}}}',
        b'{"version": 1, "chains": {"00000000000000000000000000000000": {"number": -1, "segment": 0, "is_ended": false}}}',
        b'{"version": 1, "chains": {"00000000000000000000000000000000": {"number": 0, "segment": 0, "is_ended": 0}}}',
        b'{"version": 1, "chains": {"00000000000000000000000000000000": {"number": 0}}}',
    ],
)
def test_file_that_is_not_ours_is_reported_and_everything_sent_again(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    with pytest.raises(MalformedLoggedHeads):
        parse_logged(content)
    assert HeadOutbox(path).logged(CHAIN) is None
    assert "all heads are sent again" in caplog.text


def test_parse_logged_reads_what_format_logged_writes() -> None:
    places = {CHAIN: LoggedPlace(5, 1, is_ended=False), OTHER: LoggedPlace(2**63, 0, is_ended=True)}
    assert parse_logged(format_logged(places)) == places
