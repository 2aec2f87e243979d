"""Two verifiers that share no code, on receipts and on what becomes of them when bytes change: one verdict, and no other content."""

import base64

from consentry_client.verification import InvalidReceipt, ReceiptStatement, parse_verifier_key
from consentry_client.verification import verify_receipt as verify_as_requester
from hypothesis import given
from hypothesis import strategies as st

from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, RejectedEvent, RestrictionEvent, UnlinkEvent
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import format_verifier_key
from consent.receipt import VerifiedReceipt, format_receipt, parse_receipt, verify_receipt
from tests.fakes.receipt_log import COSIGNER_KEY, LOG_KEY, ORIGIN, ReceiptLog, make_events

LOG = ReceiptLog()
REQUESTER_KEYS = [parse_verifier_key(format_verifier_key(key.verifier_key)) for key in (LOG_KEY, COSIGNER_KEY)]
SEQS = st.integers(2, len(make_events()))
REASONS = (
    "MALFORMED_RECEIPT",
    "MALFORMED_NOTE",
    "MALFORMED_CHECKPOINT",
    "ORIGIN_MISMATCH",
    "INSUFFICIENT_SIGNATURES",
    "INVALID_SIGNATURE",
    "PROOF_OUT_OF_RANGE",
    "INVALID_PROOF",
)
RAW16 = st.binary(min_size=16, max_size=16)
U8, U64, TIMES = st.integers(0, 255), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COMMON = {"origin": st.just(ORIGIN), "key_epoch": U64, "request_id": RAW16, "source": WORDS}
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        DirectiveEvent,
        **COMMON,
        token=RAW16,
        kind=U8,
        occurred_at_ms=TIMES,
        purpose=WORDS,
        proof=U8,
        assurance=U8,
        subtree=st.booleans(),
        explicit=st.booleans(),
        granted_by=U8,
        notice_version=U64,
        flags=U64,
        recipient=WORDS,
        expires_at_ms=st.none() | TIMES,
    ),
    st.builds(LinkEvent, **COMMON, left=RAW16, right=RAW16, proof=U8, occurred_at_ms=TIMES),
    st.builds(UnlinkEvent, **COMMON, left=RAW16, right=RAW16, occurred_at_ms=TIMES),
    st.builds(
        FactEvent,
        **COMMON,
        token=RAW16,
        age_band=U8,
        proof=U8,
        occurred_at_ms=TIMES,
        jurisdictions=st.lists(WORDS, max_size=3).map(tuple),
    ),
    st.builds(RestrictionEvent, **COMMON, token=RAW16, restricted=st.booleans(), proof=U8, occurred_at_ms=TIMES),
    st.builds(RejectedEvent, **COMMON, rejected_at_ms=TIMES, rejection=WORDS),
)


def judge_both(receipt_bytes: bytes) -> VerifiedReceipt | str:
    """The verdict of the servers' implementation, once it is that of the requester's too: what is proven, or the reason."""
    verdict: VerifiedReceipt | str
    told: ReceiptStatement | str
    try:
        verdict = verify_receipt(receipt_bytes, [LOG_KEY.verifier_key], [COSIGNER_KEY.verifier_key], origin=ORIGIN)
    except EventLogError as error:
        verdict = error.reason
    try:
        told = verify_as_requester(receipt_bytes, *REQUESTER_KEYS)
    except InvalidReceipt as error:
        told = error.reason
    if isinstance(told, ReceiptStatement) and isinstance(verdict, VerifiedReceipt):
        assert_same(told, verdict)
    else:
        assert told == verdict
    return verdict


def assert_same(told: ReceiptStatement, verified: VerifiedReceipt) -> None:
    event, occurrence = verified.event, told.occurrence
    assert (told.seq, told.checkpoint_size) == (verified.seq, verified.checkpoint.size)
    assert (told.reference.bytes, occurrence.type) == (event.request_id, event.TYPE.name)
    assert told.checkpoint_time is not None
    assert told.checkpoint_time.timestamp() == verified.cosigned_unix_seconds
    assert (occurrence.source, occurrence.purpose) == (event.source, getattr(event, "purpose", ""))
    assert occurrence.rejection == getattr(event, "rejection", "")
    assert occurrence.time_ms == (event.rejected_at_ms if isinstance(event, RejectedEvent) else event.occurred_at_ms)  # type: ignore[attr-defined]


@given(st.lists(EVENTS, min_size=1, max_size=9), st.data())
def test_receipt_of_any_event_in_any_log_is_proven_to_both(events: list[Event], data: st.DataObject) -> None:
    log = ReceiptLog(events)
    seq = data.draw(st.integers(1, len(events)))
    receipt_bytes = log.receipt_bytes(seq)
    assert isinstance(judge_both(receipt_bytes), VerifiedReceipt)
    assert format_receipt(parse_receipt(receipt_bytes)) == receipt_bytes


@given(SEQS, st.data())
def test_receipt_with_a_byte_changed_never_says_anything_else(seq: int, data: st.DataObject) -> None:
    receipt_bytes = LOG.receipt_bytes(seq)
    honest = judge_both(receipt_bytes)
    place = data.draw(st.integers(0, len(receipt_bytes) - 1), label="place")
    byte = data.draw(st.binary(max_size=2), label="bytes in its place")
    # A line of a key that nobody asked for may change; what is proven may not.
    assert judge_both(receipt_bytes[:place] + byte + receipt_bytes[place + 1 :]) in (honest, *REASONS)


@given(SEQS, st.data())
def test_receipt_whose_opened_leaf_is_changed_is_never_valid(seq: int, data: st.DataObject) -> None:
    lines = LOG.receipt_bytes(seq).split(b"\n")
    extra = bytearray(base64.b64decode(lines[1].removeprefix(b"extra ")))
    place = data.draw(st.integers(0, len(extra) - 1), label="place")
    extra[place] ^= data.draw(st.integers(1, 255), label="flip")
    lines[1] = b"extra " + base64.b64encode(bytes(extra))
    assert judge_both(b"\n".join(lines)) in REASONS


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_receipt_of_garbage_is_refused_by_both(garbage: bytes, kept: int) -> None:
    receipt_bytes = LOG.receipt_bytes(2)
    assert judge_both(receipt_bytes[:kept] + garbage) in (judge_both(receipt_bytes), *REASONS)
