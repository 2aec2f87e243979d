"""Records read whole, and objects made without their constructor: the same as ever, only sooner."""

from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from consent import encoding as wire


@dataclass(frozen=True, slots=True)
class Pair:
    number: int
    flag: bool
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    number: int
    flag: bool
    kept: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.number > 9:
            raise ValueError("number")


FIELDS = (("number", wire.U64), ("flag", wire.FLAG), ("name", wire.STRING), ("note", wire.STRING))
RECORD = wire.record(Pair, FIELDS)
READ_WHOLE = wire.whole_record_reader(Pair, FIELDS)


@pytest.mark.parametrize("note", ["", "short", "x" * 2000])
def test_whole_record_is_read_as_a_record_is(note: str) -> None:
    for number, flag in ((1, True), (2, False), (1, True)):
        written = RECORD.write(Pair(number, flag, "name", note))
        assert READ_WHOLE(b"--" + written, 2) == wire.read_whole(RECORD, written) == Pair(number, flag, "name", note)


def test_whole_record_made_without_its_constructor_is_as_frozen_and_hashed_as_any() -> None:
    pair = READ_WHOLE(RECORD.write(Pair(1, True, "name")), 0)
    assert (hash(pair), repr(pair)) == (hash(Pair(1, True, "name")), repr(Pair(1, True, "name")))
    with pytest.raises(FrozenInstanceError):
        pair.number = 2


@pytest.mark.parametrize("note", ["short", "x" * 2000])
def test_whole_record_cut_short_or_too_long_or_not_canonical_is_refused(note: str) -> None:
    written = RECORD.write(Pair(1, True, "name", note))
    for spoilt in (
        *(written[:end] for end in range(len(written))),
        written + b"\x00",
        written[:8] + b"\x02" + written[9:],
    ):
        with pytest.raises(wire.Truncated):
            READ_WHOLE(spoilt, 0)


def test_record_of_a_class_that_checks_its_fields_lets_it_check_and_fill_in_defaults() -> None:
    fields = (("number", wire.U8), ("flag", wire.FLAG))
    record = wire.record(Checked, fields)
    assert wire.read_whole(record, b"\x09\x01") == Checked(9, True, [])
    with pytest.raises(ValueError, match="number"):
        wire.read_whole(record, b"\x0a\x01")
