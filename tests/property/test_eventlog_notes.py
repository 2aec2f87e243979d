"""What is written is read back, what is signed verifies, and nothing but our errors comes of garbage."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consent.eventlog.checkpoint import (
    Checkpoint,
    format_checkpoint_text,
    parse_checkpoint_text,
    sign_checkpoint,
    verify_checkpoint,
)
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import (
    MAX_TIME_UNIX_SECONDS,
    KeyKind,
    SigningKey,
    cosign,
    format_signing_key,
    format_verifier_key,
    generate_signing_key,
    parse_cosignature,
    parse_signing_key,
    parse_verifier_key,
    sign_note,
    sign_text,
    verify_note,
)
from consent.eventlog.signed_note import Note, NoteSignature, format_note, parse_note
from consent.eventlog.trust import SourceRights, Trust, TrustedKey, format_trust, open_trust, parse_trust, seal_trust
from tests.unit.consent.eventlog.signers import (
    COSIGNER_KEY,
    LOG_KEY,
    ORIGIN,
    ROOT_KEY,
    SECOND_COSIGNER_KEY,
    THIRD_COSIGNER_KEY,
    TRUST,
    trusted,
)

NOW = 1_700_000_000
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, range(0x20))))
LINES = st.text(LETTERS, min_size=1, max_size=30)
TEXTS = st.lists(LINES | st.just(""), min_size=1, max_size=4).map(lambda lines: "".join(f"{line}\n" for line in lines))
NAMES = LINES.filter(lambda name: "+" not in name and not any(map(str.isspace, name)))
SEEDS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, MAX_TIME_UNIX_SECONDS)
HASHES = st.binary(min_size=32, max_size=32)
SIGNATURES = st.builds(NoteSignature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
NOTES = st.builds(Note, TEXTS, st.lists(SIGNATURES, min_size=1, max_size=5).map(tuple))
LISTED = st.lists(LINES, max_size=3).map(tuple)
RIGHTS = st.builds(SourceRights, LINES, LISTED, LISTED, st.integers(0, 255), st.integers(0, 255))
KEYS = st.builds(generate_signing_key, NAMES, st.sampled_from(KeyKind), SEEDS)
CHECKPOINTS = st.builds(Checkpoint, LINES, st.integers(1, 2**63 - 1), HASHES, st.lists(LINES, max_size=3).map(tuple))


@st.composite
def trusts(draw: st.DrawFn) -> Trust:
    kinds = [KeyKind.LOG, KeyKind.COSIGNER, KeyKind.SOURCE, KeyKind.APPROVER, KeyKind.COSIGNER]
    counts = [draw(st.integers(least, 2)) for least in (1, 1, 0, 0, 0)]
    seeds = iter(draw(st.lists(SEEDS, min_size=10, max_size=10, unique=True)))
    lists = []
    for kind, count in zip(kinds, counts, strict=True):
        keys = []
        for _ in range(count):
            start, end = sorted([draw(TIMES), draw(TIMES)])
            key = generate_signing_key(draw(NAMES), kind, next(seeds))
            ends = draw(st.sampled_from([None, start])), draw(st.sampled_from([None, end]))
            rights = draw(RIGHTS) if kind is KeyKind.SOURCE else None
            keys.append(TrustedKey(key.verifier_key, *ends, rights=rights))
        lists.append(tuple(keys))
    return Trust(
        tenant=draw(LINES),
        origin=draw(LINES),
        log_keys=lists[0],
        cosigner_keys=lists[1],
        minimum_size=draw(st.integers(0, 2**63 - 1)),
        source_keys=lists[2],
        approver_keys=lists[3],
        witness_keys=lists[4],
    )


@given(NOTES)
def test_parse_note_reads_what_format_note_wrote(note: Note) -> None:
    assert parse_note(format_note(note)) == note


@given(KEYS)
def test_parse_keys_read_what_format_keys_wrote(key: SigningKey) -> None:
    assert parse_verifier_key(format_verifier_key(key.verifier_key)) == key.verifier_key
    assert parse_signing_key(format_signing_key(key)).seed() == key.seed()


@given(CHECKPOINTS)
def test_parse_checkpoint_text_reads_what_format_wrote(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint_text(format_checkpoint_text(checkpoint)) == checkpoint


@given(trusts())
def test_parse_trust_reads_what_format_trust_wrote(trust: Trust) -> None:
    assert parse_trust(format_trust(trust)) == trust


@given(trusts(), SEEDS)
def test_open_trust_reads_what_seal_trust_wrote(trust: Trust, seed: bytes) -> None:
    root_key = generate_signing_key("root.example.com", KeyKind.LOG, seed)
    assert open_trust(seal_trust(trust, root_key), root_key.verifier_key) == trust


@given(TEXTS, st.lists(KEYS.filter(lambda key: key.kind is not KeyKind.COSIGNER), min_size=1, max_size=4))
def test_sign_note_verifies_under_each_of_its_keys(text: str, keys: list[SigningKey]) -> None:
    note = parse_note(sign_note(text, *keys))
    assert note.text == text
    for key in keys:
        verify_note(note, key.verifier_key)


@given(TEXTS, TIMES)
def test_cosign_verifies_and_tells_its_time(text: str, time_unix_seconds: int) -> None:
    signature = cosign(text, COSIGNER_KEY, time_unix_seconds)
    verify_note(Note(text, (signature,)), COSIGNER_KEY.verifier_key)
    assert parse_cosignature(signature.signature).time_unix_seconds == time_unix_seconds


@given(st.integers(1, 2**63 - 1), HASHES, TIMES)
def test_verify_checkpoint_accepts_what_sign_checkpoint_signed(
    size: int, root_hash: bytes, time_unix_seconds: int
) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root_hash)
    note_bytes = sign_checkpoint(checkpoint, LOG_KEY, COSIGNER_KEY, time_unix_seconds)
    verified = verify_checkpoint(note_bytes, TRUST, NOW)
    assert (verified.checkpoint, verified.time_ms) == (checkpoint, time_unix_seconds * 1000)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(0, 99)), max_size=8),
    st.integers(1, 3),
)
def test_verify_checkpoint_time_is_one_that_a_threshold_of_cosigners_reached(
    lines: list[tuple[int, int]], threshold: int
) -> None:
    cosigners = [COSIGNER_KEY, SECOND_COSIGNER_KEY, THIRD_COSIGNER_KEY]
    trust = Trust(
        tenant="tenant-a",
        origin=ORIGIN,
        log_keys=trusted(LOG_KEY),
        cosigner_keys=trusted(*cosigners),
        cosigner_threshold=threshold,
    )
    text = format_checkpoint_text(Checkpoint(ORIGIN, 1, bytes(32)))
    signatures = [cosign(text, cosigners[number], time) for number, time in lines]
    note_bytes = format_note(Note(text, (*signatures, sign_text(text, LOG_KEY))))
    reached = [time for time in range(100) if len({number for number, at in lines if at >= time}) >= threshold]
    try:
        assert verify_checkpoint(note_bytes, trust, NOW).time_ms == max(reached) * 1000
    except EventLogError:
        assert not reached


def _mutated(content: str) -> st.SearchStrategy[str]:
    """Texts that are nearly right: one piece cut out, doubled or replaced."""
    places = st.tuples(st.integers(0, len(content)), st.integers(0, 4))
    pieces = st.sampled_from(
        ["", "\n", "\n\n", " ", "+", "=", "0", "\N{EM DASH} ", "\0", "\ud800", "\x85", "{", "9" * 25]
    )
    return st.builds(
        lambda place, piece: content[: place[0]] + piece + content[place[0] + place[1] :], places, pieces | st.text()
    )


def _fuzz(parse: Callable[[Any], object], format_back: Callable[[Any], object], content: Any) -> None:
    try:
        parsed = parse(content)
    except EventLogError:
        return
    assert format_back(parsed) == content


NOTE_TEXT = sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(32)), LOG_KEY, COSIGNER_KEY, NOW).decode()
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given((st.text() | _mutated(NOTE_TEXT)).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
def test_parse_note_garbage_raises_only_our_errors(note_bytes: bytes) -> None:
    _fuzz(parse_note, format_note, note_bytes)


@given((st.text() | _mutated(NOTE_TEXT)).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_verify_checkpoint_garbage_raises_only_our_errors(note_bytes: bytes) -> None:
    # A line that the change makes unknown may go; a changed checkpoint or time may not pass.
    try:
        verified = verify_checkpoint(note_bytes, TRUST, NOW)
    except EventLogError:
        return
    assert verified.checkpoint == Checkpoint(ORIGIN, 3, bytes(32))
    assert verified.time_ms == NOW * 1000


@given(st.text() | _mutated(format_checkpoint_text(Checkpoint(ORIGIN, 3, bytes(32), ("extension",)))))
def test_parse_checkpoint_text_garbage_raises_only_our_errors(text: str) -> None:
    _fuzz(parse_checkpoint_text, format_checkpoint_text, text)


@given(st.text() | _mutated(format_verifier_key(LOG_KEY.verifier_key)))
def test_parse_verifier_key_garbage_raises_only_our_errors(text: str) -> None:
    _fuzz(parse_verifier_key, format_verifier_key, text)


@given(st.text() | _mutated(format_signing_key(LOG_KEY)))
def test_parse_signing_key_garbage_raises_only_our_errors(text: str) -> None:
    _fuzz(parse_signing_key, format_signing_key, text)


@given(st.text() | _mutated(format_trust(TRUST)))
def test_parse_trust_garbage_raises_only_our_errors(text: str) -> None:
    _fuzz(parse_trust, format_trust, text)


@given(st.sampled_from(sorted(json.loads(format_trust(TRUST)))), JSON_VALUES)
def test_parse_trust_any_value_in_any_field_raises_only_our_errors(field: str, value: object) -> None:
    content = {**json.loads(format_trust(TRUST)), field: value}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"
    _fuzz(parse_trust, format_trust, text)


@given(st.binary(max_size=300))
def test_open_trust_signed_garbage_raises_only_our_errors(content: bytes) -> None:
    try:
        open_trust(sign_note(content.decode("latin-1") + "\n", ROOT_KEY), ROOT_KEY.verifier_key)
    except EventLogError:
        return
    raise AssertionError("no random text is a trust file")
