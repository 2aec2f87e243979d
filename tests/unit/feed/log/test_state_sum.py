from feed.log_store.port import EMPTY_STATE_SUM
from feed.log_store.state_sum import add_records, subtract_records

RECORDS = [b"one", b"two", b"three"]


def test_state_sum_order_does_not_matter() -> None:
    assert add_records(EMPTY_STATE_SUM, RECORDS) == add_records(EMPTY_STATE_SUM, reversed(RECORDS))


def test_state_sum_what_was_added_can_be_taken_out_again() -> None:
    changed = subtract_records(add_records(add_records(EMPTY_STATE_SUM, RECORDS), [b"four"]), [b"two", b"four"])

    assert changed == add_records(EMPTY_STATE_SUM, [b"one", b"three"])
    assert subtract_records(changed, [b"three", b"one"]) == EMPTY_STATE_SUM


def test_state_sum_missing_doubled_or_changed_record_shows() -> None:
    whole = add_records(EMPTY_STATE_SUM, RECORDS)

    assert len(whole) == 32
    for wrong in (RECORDS[:2], [*RECORDS, b"one"], [b"One", b"two", b"three"], []):
        assert add_records(EMPTY_STATE_SUM, wrong) != whole
