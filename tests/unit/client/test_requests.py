"""Questions as messages."""

import math

import pytest
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from consentry_client import AgeBand, ConsistencyToken, Context, Identifier, email, user
from consentry_client.requests import (
    BATCH_BYTES_MAX,
    cut_batches,
    encode_consistency,
    encode_context,
    encode_group,
    encode_identifier,
    encode_purposes,
    encode_subject,
)
from hypothesis import given
from hypothesis import strategies as st

BROKEN = "ada\ud800@example.com"


def test_encode_identifier_keeps_value_as_it_is() -> None:
    assert encode_identifier(email(" Ädä@Example.com ")).value == " Ädä@Example.com "


def test_encode_identifier_of_token_sends_the_token_alone() -> None:
    message = encode_identifier(Identifier.of_token(bytes(range(16))))
    assert message == event_pb2.Identifier(token=bytes(range(16)))


def test_encode_identifier_of_token_says_its_key_epoch() -> None:
    message = encode_identifier(Identifier.of_token(bytes(range(16)), 3))
    assert (message.token, message.key_epoch) == (bytes(range(16)), 3)
    with pytest.raises(ValueError, match="key_epoch"):
        Identifier.of_token(bytes(16), -1)


@pytest.mark.parametrize("value", [BROKEN, "a" * (BATCH_BYTES_MAX + 1), "ä" * BATCH_BYTES_MAX])
def test_encode_identifier_that_cannot_be_sent_goes_out_empty(value: str) -> None:
    assert encode_identifier(email(value)) == event_pb2.Identifier(namespace="email")


def test_encode_subject_too_large_goes_out_empty() -> None:
    many = tuple(user("x" * 1000) for _ in range(4000))
    assert encode_subject(many) == decision_pb2.Subject()


def test_encode_context_with_broken_text_replaces_it() -> None:
    message = encode_context(Context(["E\ud800U"], AgeBand.TEEN, True, "sh\ud800p", ["hea\ud800th"]))
    assert message == decision_pb2.Context(
        jurisdictions=["E?U"],
        age_band=event_pb2.AGE_BAND_TEEN,
        sec_gpc=True,
        recipient="sh?p",
        data_categories=["hea?th"],
    )


def test_encode_context_of_none_is_none() -> None:
    assert encode_context(None) is None


@pytest.mark.parametrize("band", list(AgeBand))
def test_encode_context_knows_every_age_band(band: AgeBand) -> None:
    message = encode_context(Context(age_band=band))
    assert message is not None
    assert event_pb2.AgeBand.Name(message.age_band) == f"AGE_BAND_{band.name}"


def test_encode_purposes_with_broken_text_replaces_it() -> None:
    assert encode_purposes(["market\ud800ing", "analytics"]) == ["market?ing", "analytics"]


@pytest.mark.parametrize(
    ("wait_seconds", "wait_ms"),
    [(0, 0), (-1, 0), (math.nan, 0), (0.0004, 0), (0.25, 250), (10, 10_000), (1e9, 10**9), (math.inf, 10**9)],
)
def test_encode_consistency_turns_any_wait_into_milliseconds(wait_seconds: float, wait_ms: int) -> None:
    message = encode_consistency(ConsistencyToken("log", 7), wait_seconds)
    assert message == decision_pb2.Consistency(min=event_pb2.ConsistencyToken(origin="log", seq=7), wait_ms=wait_ms)


def test_encode_consistency_without_token_is_none() -> None:
    assert encode_consistency(None, 5) is None


def test_encode_group_of_one_namespace_is_compact() -> None:
    group = encode_group([(email("a@example.com"),), (email(BROKEN),)], ("p",), Context("EU"))
    assert group == decision_pb2.BatchGroup(
        purposes=["p"],
        context=decision_pb2.Context(jurisdictions=["EU"]),
        namespace="email",
        values=["a@example.com", ""],
    )


@pytest.mark.parametrize(
    "subjects",
    [
        [(email("a@example.com"),), (user("1"),)],
        [(email("a@example.com"), email("b@example.com"))],
        [(email("a@example.com"),), ()],
        [(), (email("a@example.com"),)],
        [(Identifier.of_token(bytes(16)),)],
    ],
    ids=["two-namespaces", "two-identifiers", "none-later", "none-first", "token"],
)
def test_encode_group_of_mixed_subjects_is_general(subjects: list[tuple[Identifier, ...]]) -> None:
    group = encode_group(subjects, ("p",), None)
    assert not group.namespace
    assert not group.values
    assert len(group.subjects) == len(subjects)


VALUES = st.text(max_size=40)
SUBJECTS = st.lists(st.lists(VALUES.map(email), max_size=3).map(tuple), max_size=60)


@given(SUBJECTS, st.integers(1, 10), st.integers(60, 400))
def test_cut_batches_covers_all_in_order_within_limits(
    subjects: list[tuple[Identifier, ...]], items_max: int, bytes_max: int
) -> None:
    runs = list(cut_batches(subjects, items_max, bytes_max))
    assert [index for run in runs for index in run] == list(range(len(subjects)))
    for run in runs:
        batch = subjects[run.start : run.stop]
        assert 0 < len(batch) <= items_max
        assert len(batch) == 1 or encode_group(batch, (), None).ByteSize() <= bytes_max


def test_cut_batches_of_many_fills_each_batch() -> None:
    subjects = [(email(f"u{index}@example.com"),) for index in range(25_001)]
    assert [len(run) for run in cut_batches(subjects, 10_000)] == [10_000, 10_000, 5_001]
