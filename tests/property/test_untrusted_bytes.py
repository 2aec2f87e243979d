"""Every parser of bytes from elsewhere: good ones changed anywhere, and garbage, give a value or an error of ours, never anything else."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import feed_pb2
from consentry.intake.v1 import intake_pb2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consent.errors import ConsentError
from consent.event import format_event, parse_event
from consent.eventlog.attestation import attest, format_attestations, parse_attestations
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import format_signing_key, format_verifier_key, parse_signing_key, parse_verifier_key
from consent.eventlog.merkle import Frontier, parse_frontier
from consent.eventlog.signed_note import parse_note
from consent.eventlog.trust import format_trust, parse_trust
from consent.eventlog.witness import format_witness_request, parse_witness_request
from consent.key_ring import KeyRing, format_key_ring, open_key_ring, parse_key_ring, seal_key_ring
from consent.policy import PolicyError, format_policy, parse_policy
from consent.policy.file import load_policy_file
from consent.state_record import join_records, parse_cluster, parse_tenant, split_records
from feed.errors import FeedError
from feed.grpc_api.intake_codec import (
    parse_directive_request,
    parse_fact_request,
    parse_link_request,
    parse_restriction_request,
    parse_streamed_requests,
    parse_unlink_request,
)
from feed.policies.shipped import read_default_policy
from hosting.addresses import parse_address
from hosting.errors import HostingError
from hosting.key_files import format_key, parse_key
from sidecar.errors import SidecarError
from sidecar.grpc_api.codec import read_batch, read_question, read_subject
from sidecar.ports import EMPTY_HEAD, EntriesFrame, HeartbeatFrame, WireEntry
from sidecar.sync.trusted_log import Moment, TrustedLog
from tests.fakes.histories import POLICY
from tests.fakes.signing_feed import COSIGNER_KEY, LOG_KEY, ORIGIN, START_MS, TRUST, SigningFeed, opt_out
from tests.unit.consent.eventlog.signers import SOURCE_KEY

OURS = (ConsentError, EventLogError, PolicyError, FeedError, HostingError, SidecarError)
MOMENT = Moment(START_MS, 0, "boot")
FEED = SigningFeed([opt_out(1), opt_out(2, "newsletter", kind=1, proof=2)])
SNAPSHOT = FEED.snapshot()
RECIPIENT = X25519PrivateKey.from_private_bytes(bytes(range(32)))
RING = KeyRing((bytes(32),), ((20_000, bytes(32)), (20_001, bytes(32))))
PROOF = event_pb2.PROOF_NONE
IDENTIFIER = event_pb2.Identifier(namespace="email", value="ada@example.com")


@dataclass(frozen=True)
class Parser:
    """A parser and some bytes that it takes."""

    parse: Callable[[bytes], Any]
    good: bytes


def text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode("utf-8", "replace"))


def drain(parse: Callable[[bytes], Iterable[Any]]) -> Callable[[bytes], Any]:
    return lambda data: list(parse(data))


def follow(data: bytes) -> Any:
    frame = feed_pb2.Entries()
    frame.MergeFromString(data)
    entries = [WireEntry(entry.type, entry.opening, entry.event_bytes) for entry in frame.entries]
    return TrustedLog(TRUST, EMPTY_HEAD).receive_entries(
        EntriesFrame(frame.from_seq, entries, frame.checkpoint), MOMENT
    )


def beat(data: bytes) -> Any:
    return TrustedLog(TRUST, EMPTY_HEAD).receive_heartbeat(HeartbeatFrame(data), MOMENT)


def load_state(data: bytes) -> Any:
    return TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(replace(SNAPSHOT, chunks=[data]), MOMENT)


def load_tenant(data: bytes) -> Any:
    return TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(replace(SNAPSHOT, tenant_record=data), MOMENT)


def load_edge(data: bytes) -> Any:
    hashes = tuple(data[at : at + 32] for at in range(0, len(data), 32))
    return TrustedLog(TRUST, EMPTY_HEAD).receive_snapshot(replace(SNAPSHOT, frontier_hashes=hashes), MOMENT)


def ask(data: bytes) -> Any:
    question = decision_pb2.CheckRequest.FromString(data)
    read_subject(question.subject, "subject")
    return read_question(question.purposes, question.context, question.consistency, ORIGIN)


def ask_many(data: bytes) -> Any:
    return read_batch(decision_pb2.CheckBatchRequest.FromString(data), ORIGIN)


def frame_bytes() -> bytes:
    frame = FEED.entries(1, 3)
    entries = [
        event_pb2.Entry(type=entry.type_byte, opening=entry.opening, event_bytes=entry.event_bytes)
        for entry in frame.entries
    ]
    return feed_pb2.Entries(from_seq=1, entries=entries, checkpoint=frame.checkpoint_note).SerializeToString()


def intake_parsers() -> Iterator[tuple[str, Parser]]:
    directive = intake_pb2.RecordDirectiveRequest(
        idempotency_key="k",
        directive=intake_pb2.Directive(
            identifier=IDENTIFIER, purpose="*", kind=event_pb2.DIRECTIVE_KIND_OPT_OUT, proof=PROOF
        ),
    )
    streamed = intake_pb2.RecordDirectivesRequest(records=[directive, directive])
    link = intake_pb2.RecordLinkRequest(idempotency_key="k", left=IDENTIFIER, right=IDENTIFIER, proof=PROOF)
    unlink = intake_pb2.RecordUnlinkRequest(idempotency_key="k", left=IDENTIFIER, right=IDENTIFIER)
    fact = intake_pb2.RecordFactRequest(
        idempotency_key="k", identifier=IDENTIFIER, age_band=event_pb2.AGE_BAND_ADULT, jurisdictions=["US-CA"]
    )
    restriction = intake_pb2.RecordRestrictionRequest(idempotency_key="k", identifier=IDENTIFIER, restricted=True)
    yield "directive request", Parser(parse_directive_request, directive.SerializeToString())
    yield "streamed requests", Parser(parse_streamed_requests, streamed.SerializeToString())
    yield "link request", Parser(parse_link_request, link.SerializeToString())
    yield "unlink request", Parser(parse_unlink_request, unlink.SerializeToString())
    yield "fact request", Parser(parse_fact_request, fact.SerializeToString())
    yield "restriction request", Parser(parse_restriction_request, restriction.SerializeToString())


def question_bytes() -> bytes:
    subject = decision_pb2.Subject(identifiers=[IDENTIFIER])
    context = decision_pb2.Context(jurisdictions=["US-CA"], age_band=event_pb2.AGE_BAND_ADULT, recipient="acme")
    return decision_pb2.CheckRequest(subject=subject, purposes=["newsletter"], context=context).SerializeToString()


def batch_bytes() -> bytes:
    group = decision_pb2.BatchGroup(purposes=["newsletter"], namespace="email", values=["ada@example.com"])
    return decision_pb2.CheckBatchRequest(groups=[group]).SerializeToString()


EVENT = format_event(opt_out(1))
PARSERS: dict[str, Parser] = {
    "event": Parser(parse_event, EVENT),
    "attestations": Parser(parse_attestations, format_attestations(attest([(EVENT, b"")], ORIGIN, SOURCE_KEY, 1))),
    "note": Parser(parse_note, FEED.checkpoint()),
    "checkpoint": Parser(lambda data: verify_checkpoint(data, TRUST, START_MS // 1000), FEED.checkpoint()),
    "trust file": Parser(text(parse_trust), format_trust(TRUST).encode()),
    "public key": Parser(text(parse_verifier_key), format_verifier_key(COSIGNER_KEY.verifier_key).encode()),
    "private key": Parser(text(parse_signing_key), format_signing_key(LOG_KEY).encode()),
    "frontier": Parser(parse_frontier, Frontier(3, [bytes(32), bytes(32)]).to_bytes()),
    "witness request": Parser(parse_witness_request, format_witness_request(0, (), FEED.checkpoint())),
    "key ring": Parser(parse_key_ring, format_key_ring(RING)),
    "sealed key ring": Parser(
        lambda data: open_key_ring(data, RECIPIENT, tenant="t", sidecar_id="s"),
        seal_key_ring(RING, RECIPIENT.public_key().public_bytes_raw(), tenant="t", sidecar_id="s"),
    ),
    "policy document": Parser(parse_policy, format_policy(POLICY)),
    "policy file": Parser(
        text(lambda data: load_policy_file(data, "policy.yaml")), read_default_policy().encode()[:900]
    ),
    "cluster record": Parser(parse_cluster, next(iter(split_records(SNAPSHOT.chunks[0])))),
    "tenant record": Parser(parse_tenant, SNAPSHOT.tenant_record),
    "records of a chunk": Parser(drain(split_records), join_records([b"one", b"two"])),
    "entries of a stream": Parser(follow, frame_bytes()),
    "heartbeat": Parser(beat, FEED.checkpoint(0)),
    "snapshot's state": Parser(load_state, SNAPSHOT.chunks[0]),
    "snapshot's tenant": Parser(load_tenant, SNAPSHOT.tenant_record),
    "snapshot's edge": Parser(load_edge, b"".join(SNAPSHOT.frontier_hashes)),
    "address": Parser(text(parse_address), b"unix:///run/consentry/feed.sock"),
    "key file": Parser(lambda data: parse_key(data, use="cache-kek"), format_key(bytes(32), "cache-kek")),
    "question": Parser(ask, question_bytes()),
    "batch of questions": Parser(ask_many, batch_bytes()),
    **dict(intake_parsers()),
}

changes = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "insert", "repeat", "zero")), st.integers(0, 2**16), st.binary(max_size=9)
    ),
    min_size=1,
    max_size=4,
)


def change(data: bytes, steps: list[tuple[str, int, bytes]]) -> bytes:
    """The bytes, spoilt step by step."""
    for what, number, more in steps:
        at = number % (len(data) + 1)
        match what:
            case "flip":
                byte = data[at : at + 1]
                data = data[:at] + bytes(each ^ (1 << number % 8) for each in byte) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + more + data[at:]
            case "repeat":
                data = data[:at] + data[max(0, at - 8) : at] + data[at:]
            case _:
                data = data[:at] + bytes(len(more)) + data[at + len(more) :]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_good_bytes_are_taken(name: str) -> None:
    try:
        PARSERS[name].parse(PARSERS[name].good)
    except PolicyError:
        # A file that is cut off in the middle is as good a start as any for spoiling it.
        assert name == "policy file"


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60)
@given(steps=changes)
def test_spoilt_bytes_give_a_value_or_an_error_of_ours(name: str, steps: list[tuple[str, int, bytes]]) -> None:
    give(PARSERS[name].parse, change(PARSERS[name].good, steps))


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=30)
@given(data=st.binary(max_size=300))
@example(data=b"")
def test_garbage_gives_a_value_or_an_error_of_ours(name: str, data: bytes) -> None:
    give(PARSERS[name].parse, data)


@pytest.mark.long(seconds=120)
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=3_000)
@given(steps=changes)
def test_spoilt_bytes_many_times_over(name: str, steps: list[tuple[str, int, bytes]]) -> None:
    give(PARSERS[name].parse, change(PARSERS[name].good, steps))


def give(parse: Callable[[bytes], Any], data: bytes) -> None:
    # What is no protobuf message at all, gRPC or the codec above refuses before these see it.
    beneath = (DecodeError,) if parse in (follow, ask, ask_many) else ()
    with suppress(*OURS, *beneath):
        parse(data)
