"""Decision ids, trace contexts, keys, and the tables that must be total."""

import time
from uuid import UUID

import grpc
import pytest
from consentry.decision.v1 import decision_pb2

from consent.decision_record import CallRecord, Item, format_record, parse_record
from consent.errors import ConsentError
from consent.eventlog.errors import EventLogError
from consent.key_ring import KeyRing, commit_key
from consent.policy import PolicyError
from consent.vocabulary.reason import OPERATIONAL_REASONS, Effect, Reason
from hosting.errors import HostingError
from sidecar.check import Identifier, Keys, make_decision_id, parse_trace_context
from sidecar.errors import JournalUnavailable, SidecarError
from sidecar.grpc_api.codec import REASON_TO_WIRE, RULE_NOTES
from sidecar.grpc_api.status import STATUSES

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_make_decision_id_is_a_uuid7_of_its_time_and_new_each_time() -> None:
    now_ms = time.time_ns() // 1_000_000
    made = {make_decision_id(now_ms) for _ in range(1000)}
    assert len(made) == 1000
    for decision_id in made:
        as_uuid = UUID(bytes=decision_id)
        assert (as_uuid.version, as_uuid.variant) == (7, "specified in RFC 4122")
        assert int.from_bytes(decision_id[:6], "big") == now_ms


def test_parse_trace_context_takes_the_callers_trace() -> None:
    context = parse_trace_context(f"00-{TRACE_ID}-{SPAN_ID}-01")
    assert (context.trace_id.hex(), context.parent_span_id.hex(), context.flags) == (TRACE_ID, SPAN_ID, 1)
    newer = parse_trace_context(f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes-later")
    assert newer.trace_id.hex() == TRACE_ID


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "garbage",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'ab ' * 10}ab-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-+1",
    ],
)
def test_parse_trace_context_malformed_starts_a_trace_of_our_own(traceparent: str | None) -> None:
    context = parse_trace_context(traceparent)
    assert len(context.trace_id) == 16
    assert any(context.trace_id)
    assert context.trace_id.hex() != TRACE_ID
    assert context.parent_span_id == bytes(8)


def test_keys_before_the_first_ring_tell_malformed_identifiers_and_find_nobody() -> None:
    keys = Keys()
    assert not keys.use(None, (), 1)
    assert keys.tokens([Identifier("email", "ada@example.com")], may_use_tokens=False) == (b"",)
    assert keys.tokens([Identifier("email", "not an address")], may_use_tokens=False) is None
    assert keys.pseudonyms((b"",)) == ()


def test_keys_ring_that_is_not_the_logs_makes_no_tokens() -> None:
    keys = Keys()
    assert not keys.use(KeyRing((bytes(32),), ((1, bytes(32)),)), (commit_key(b"\x01" * 32),), 1)
    tokens = keys.tokens([Identifier("user", "ada")], may_use_tokens=False)
    assert tokens == (b"",)
    # There is an audit key, and a pseudonym of nothing would be the same for everybody.
    assert keys.pseudonyms(tokens) == ()


def test_keys_pseudonyms_change_with_the_day_and_tokens_do_not() -> None:
    keys, ring = Keys(), KeyRing((bytes(32),), ((1, bytes(32)), (2, b"\x01" * 32)))
    commitments = (commit_key(bytes(32)),)
    seen = []
    for day in (1, 2):
        assert keys.use(ring, commitments, day)
        tokens = keys.tokens([Identifier("user", "ada")], may_use_tokens=False)
        seen.append((tokens, keys.pseudonyms(tokens)))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize(
    "identifiers",
    [[], [Identifier("", "", b"short")], [Identifier("user", "ada", bytes(16))]],
    ids=["none", "short token", "token and value"],
)
def test_keys_what_cannot_be_an_identifier_makes_the_request_malformed(identifiers: list[Identifier]) -> None:
    keys = Keys()
    assert keys.use(KeyRing((bytes(32),), ()), (commit_key(bytes(32)),), 1)
    assert keys.tokens(identifiers, may_use_tokens=True) is None


def test_identifier_repr_shows_no_value() -> None:
    assert "ada" not in repr(Identifier("user", "ada"))


def test_reasons_have_one_number_each_on_the_wire_and_in_the_record() -> None:
    names = {name.removeprefix("REASON_") for name in decision_pb2.Reason.keys()}  # noqa: SIM118 - no mapping
    assert names == {reason.value for reason in Reason} | {"UNSPECIFIED", "WITHHELD"}
    call = CallRecord(bytes(16), 0, 0, 0, bytes(16), bytes(8), bytes(8), 0, b"", b"", ())
    for reason in Reason:
        item = Item((), True, Effect.DENY, reason, 0, 0)
        kept = parse_record(format_record(call._replace(items=(item,)))).items[0].reason
        assert kept is reason
    assert [int(REASON_TO_WIRE[reason]) for reason in Reason] == list(range(2, 2 + len(Reason)))


def test_operational_reasons_say_nothing_about_a_person() -> None:
    about_people = {
        reason
        for reason in Reason
        if reason.name.startswith(("OPT", "GLOBAL", "GRANT", "MINOR", "DEFAULT", "NO_CONSENT"))
    }
    assert not about_people & OPERATIONAL_REASONS


def test_rule_notes_cover_every_rule() -> None:
    assert sorted(RULE_NOTES) == list(range(1, 18))


def _subclasses(root: type[Exception]) -> set[type[Exception]]:
    return {root} | {found for child in root.__subclasses__() for found in _subclasses(child)}


@pytest.mark.parametrize("root", [SidecarError, HostingError, ConsentError, EventLogError, PolicyError])
def test_statuses_name_every_error_and_none_is_ok(root: type[Exception]) -> None:
    for error in _subclasses(root):
        code = next(STATUSES[base] for base in error.__mro__ if base in STATUSES)
        assert code is not grpc.StatusCode.OK
        assert error.reason == error.reason.upper()  # type: ignore[attr-defined]


def test_statuses_journal_that_cannot_keep_the_record_is_unavailable() -> None:
    code = next(STATUSES[base] for base in JournalUnavailable.__mro__ if base in STATUSES)
    assert code is grpc.StatusCode.UNAVAILABLE
