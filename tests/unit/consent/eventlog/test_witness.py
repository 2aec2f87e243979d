"""What a witness cosigns, and each refusal in the order and with the status of c2sp.org/tlog-witness."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.checkpoint import Checkpoint, format_checkpoint_text, verify_checkpoint
from consent.eventlog.errors import InvalidSignature, MalformedNote
from consent.eventlog.keys import KeyKind, SigningKey, cosign, sign_note, sign_text
from consent.eventlog.merkle import Frontier, hash_leaf
from consent.eventlog.proof import consistency_proof
from consent.eventlog.signed_note import Note, format_note, parse_note
from consent.eventlog.trust import TrustedKey
from consent.eventlog.witness import (
    MAX_REQUEST_BYTES,
    ForkSeen,
    MalformedWitnessRequest,
    NotTheLogs,
    OldSizeDiffers,
    RootDiffers,
    SeenTree,
    UnknownLog,
    WitnessRefusal,
    format_cosignatures,
    format_witness_request,
    judge_witness_request,
    parse_witness_request,
    read_cosignatures,
)
from tests.unit.consent.eventlog.signers import COSIGNER_KEY, LOG_KEY, ORIGIN, TRUST, WITNESS_KEY, make_key, trusted

NOW = 1_800_000_000
LOG_KEYS = {ORIGIN: [LOG_KEY.verifier_key]}
SECOND_WITNESS_KEY = make_key("witness.example.com/2", KeyKind.COSIGNER)


class Tree:
    """A log with every node, so that it can prove anything."""

    def __init__(self, size: int, first: bytes = b"") -> None:
        self.frontier, self.nodes, self.roots = Frontier(), dict[tuple[int, int], bytes](), [b""]
        for number in range(size):
            leaf = hash_leaf(first if first and number == 0 else str(number).encode())
            self.nodes |= {(level, index): node for level, index, node in self.frontier.append(leaf)}
            self.roots.append(self.frontier.root_hash())

    def note(self, size: int, key: SigningKey = LOG_KEY, origin: str = ORIGIN) -> bytes:
        return sign_note(format_checkpoint_text(Checkpoint(origin, size, self.roots[size])), key)

    def request(self, old_size: int, size: int) -> bytes:
        proof = consistency_proof(old_size, size, lambda level, index: self.nodes[level, index])
        return format_witness_request(old_size, proof, self.note(size))

    def seen(self, size: int) -> dict[str, SeenTree]:
        return {ORIGIN: SeenTree(size, self.roots[size])}


TREE, OTHER = Tree(9), Tree(9, b"other")


def judge(body: bytes, seen: dict[str, SeenTree] | None = None) -> Checkpoint:
    return judge_witness_request(parse_witness_request(body), LOG_KEYS, seen or {})


@given(st.integers(0, 9), st.integers(1, 9))
def test_a_tree_that_grew_is_cosigned(old_size: int, size: int) -> None:
    old_size = min(old_size, size)
    seen = TREE.seen(old_size) if old_size else {}
    assert judge(TREE.request(old_size, size), seen) == Checkpoint(ORIGIN, size, TREE.roots[size])


@given(st.integers(1, 9), st.integers(1, 9))
def test_another_history_is_never_cosigned(old_size: int, size: int) -> None:
    old_size = min(old_size, size)
    with pytest.raises(ForkSeen):
        judge(OTHER.request(old_size, size), TREE.seen(old_size))


REFUSED: dict[str, tuple[Callable[[], bytes], dict[str, SeenTree], type[WitnessRefusal], int]] = {
    "no body": (lambda: b"", {}, MalformedWitnessRequest, 400),
    "not UTF-8": (lambda: b"\xff\n\n", {}, MalformedWitnessRequest, 400),
    "too long": (lambda: bytes(MAX_REQUEST_BYTES + 1), {}, MalformedWitnessRequest, 400),
    "old size with a zero in front": (lambda: b"old 01\n\n" + TREE.note(2), {}, MalformedWitnessRequest, 400),
    "old size of another number script": (
        lambda: "old \u0663\n\n".encode() + TREE.note(3), {}, MalformedWitnessRequest, 400),
    "no old size": (lambda: b"\n\n" + TREE.note(2), {}, MalformedWitnessRequest, 400),
    "hash too short": (lambda: b"old 0\nAAAA\n\n" + TREE.note(2), {}, MalformedWitnessRequest, 400),
    "64 hashes": (
        lambda: format_witness_request(0, [bytes(32)] * 64, TREE.note(2)), {}, MalformedWitnessRequest, 400),
    "no checkpoint": (lambda: b"old 0\n\n" + sign_note("text\n", LOG_KEY), {}, MalformedWitnessRequest, 400),
    "log not watched": (
        lambda: format_witness_request(0, (), TREE.note(2, origin="other.example/log")), {}, UnknownLog, 404),
    "signed by another": (
        lambda: format_witness_request(0, (), TREE.note(2, make_key(ORIGIN, KeyKind.LOG, 1))), {}, NotTheLogs, 403),
    "signature of another text": (
        lambda: format_witness_request(
            0, (), format_note(Note(format_checkpoint_text(Checkpoint(ORIGIN, 2, TREE.roots[3])),
                                    parse_note(TREE.note(2)).signatures))), {}, NotTheLogs, 403),
    "old size above the new": (
        lambda: format_witness_request(5, (), TREE.note(2)), TREE.seen(5), MalformedWitnessRequest, 400),
    "old size not the last": (lambda: TREE.request(2, 5), TREE.seen(3), OldSizeDiffers, 409),
    "smaller than the last": (lambda: TREE.request(0, 2), TREE.seen(3), OldSizeDiffers, 409),
    "another root of the same size": (
        lambda: format_witness_request(5, (), OTHER.note(5)), TREE.seen(5), RootDiffers, 409),
    "proof missing": (lambda: format_witness_request(3, (), TREE.note(5)), TREE.seen(3), ForkSeen, 422),
    "proof where none may be": (
        lambda: format_witness_request(0, [bytes(32)], TREE.note(5)), {}, ForkSeen, 422),
}  # fmt: skip


@pytest.mark.parametrize(("make", "seen", "error", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_have_the_status_of_the_specification(
    make: Callable[[], bytes], seen: dict[str, SeenTree], error: type[WitnessRefusal], status: int
) -> None:
    with pytest.raises(error) as caught:
        judge(make(), seen)
    assert type(caught.value) is error
    assert caught.value.http_status == status


def test_refusal_of_another_old_size_tells_the_last() -> None:
    with pytest.raises(OldSizeDiffers) as caught:
        judge(TREE.request(2, 5), TREE.seen(3))
    assert caught.value.size == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused_by_name(body: bytes) -> None:
    for candidate in (body, b"old 0\n" + body, TREE.request(2, 5)[: len(body)] + body):
        try:
            judge(candidate, TREE.seen(2))
        except WitnessRefusal:
            continue


def test_cosignatures_go_there_and_back() -> None:
    note = parse_note(TREE.note(5))
    line = cosign(note.text, WITNESS_KEY, NOW)
    stranger = cosign(note.text, SECOND_WITNESS_KEY, NOW)
    answer = format_cosignatures([stranger, line], note.text)
    assert answer.decode().count("\n") == 2
    assert read_cosignatures(answer, note, [WITNESS_KEY.verifier_key]) == (line,)


def test_cosignature_of_another_text_or_form_is_refused() -> None:
    note = parse_note(TREE.note(5))
    other = format_cosignatures([cosign(parse_note(TREE.note(4)).text, WITNESS_KEY, NOW)], note.text)
    with pytest.raises(InvalidSignature):
        read_cosignatures(other, note, [WITNESS_KEY.verifier_key])
    for answer in (b"", b"text\n", b"\xff", TREE.note(5), other[:-1]):
        with pytest.raises(MalformedNote):
            read_cosignatures(answer, note, [WITNESS_KEY.verifier_key])


def checkpoint(*witnesses: tuple[SigningKey, int], at: int = NOW) -> bytes:
    text = parse_note(TREE.note(5)).text
    lines = [sign_text(text, LOG_KEY), cosign(text, COSIGNER_KEY, at)]
    return format_note(Note(text, (*lines, *(cosign(text, key, time) for key, time in witnesses))))


WITNESSED = replace(TRUST, witness_keys=trusted(WITNESS_KEY, SECOND_WITNESS_KEY), witness_threshold=1)


@pytest.mark.parametrize(
    ("witnesses", "changes", "fresh"),
    [
        ((), {"witness_threshold": 0}, NOW),
        ((), {}, None),
        (((WITNESS_KEY, NOW - 3),), {}, NOW - 3),
        (((WITNESS_KEY, NOW + 3),), {}, NOW),
        (((WITNESS_KEY, NOW - 3), (SECOND_WITNESS_KEY, NOW - 9)), {}, NOW - 3),
        (((WITNESS_KEY, NOW - 3), (SECOND_WITNESS_KEY, NOW - 9)), {"witness_threshold": 2}, NOW - 9),
        (((WITNESS_KEY, NOW - 3), (WITNESS_KEY, NOW - 2)), {"witness_threshold": 2}, None),
        (((make_key("stranger.example", KeyKind.COSIGNER), NOW),), {}, None),
        (
            ((WITNESS_KEY, NOW - 3),),
            {"witness_keys": (TrustedKey(WITNESS_KEY.verifier_key, not_after_unix_seconds=NOW - 4),)},
            None,
        ),
    ],
)
def test_freshness_counts_from_what_enough_witnesses_have_seen(
    witnesses: tuple[tuple[SigningKey, int], ...], changes: dict[str, Any], fresh: int | None
) -> None:
    verified = verify_checkpoint(checkpoint(*witnesses), replace(WITNESSED, **changes), NOW)
    assert verified.fresh_time_ms == (None if fresh is None else fresh * 1000)
    assert verified.time_ms == NOW * 1000


def test_broken_line_of_a_trusted_witness_refuses_the_checkpoint() -> None:
    broken = checkpoint((WITNESS_KEY, NOW))[:-8] + b"AAAAAA=\n"
    with pytest.raises((InvalidSignature, MalformedNote)):
        verify_checkpoint(broken, WITNESSED, NOW)
