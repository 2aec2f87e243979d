from feed.ports import StoredEntry
from feed.sequencer.recent_entries import RecentEntries


def make_entries(first_seq: int, count: int, size_bytes: int = 10) -> list[StoredEntry]:
    return [StoredEntry(seq, 1, bytes(32), bytes(size_bytes)) for seq in range(first_seq, first_seq + count)]


def test_recent_entries_gives_those_held_up_to_the_limit() -> None:
    recent = RecentEntries()
    recent.extend(make_entries(5, 10))

    assert recent.read(5, 3) == make_entries(5, 3)
    assert recent.read(14, 3) == make_entries(14, 1)
    assert recent.read(15, 3) == []


def test_recent_entries_older_than_those_held_are_somebody_elses_business() -> None:
    recent = RecentEntries(max_entries=4)
    assert recent.read(1, 1) is None
    recent.extend(make_entries(1, 10))

    assert recent.read(6, 1) is None
    assert recent.read(7, 10) == make_entries(7, 4)


def test_recent_entries_large_ones_push_out_more() -> None:
    recent = RecentEntries(max_bytes=100)
    recent.extend(make_entries(1, 10))
    assert recent.read(1, 1) == make_entries(1, 1)

    recent.extend(make_entries(11, 1, size_bytes=95))

    assert recent.read(10, 9) is None
    assert recent.read(11, 9) == make_entries(11, 1, size_bytes=95)


def test_recent_entries_one_larger_than_all_is_not_held() -> None:
    recent = RecentEntries(max_bytes=100)
    recent.extend(make_entries(1, 1, size_bytes=101))

    assert recent.read(1, 1) is None
