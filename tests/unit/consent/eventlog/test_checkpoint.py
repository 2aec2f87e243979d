import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.checkpoint import (
    Checkpoint,
    format_checkpoint_text,
    parse_checkpoint_text,
    sign_checkpoint,
    verify_checkpoint,
)
from consent.eventlog.errors import (
    BelowMinimumSize,
    EventLogError,
    InsufficientSignatures,
    InvalidSignature,
    KeyExpired,
    MalformedCheckpoint,
    MalformedNote,
    OriginMismatch,
    WrongKeyKind,
)
from consent.eventlog.keys import (
    MAX_TIME_UNIX_SECONDS,
    KeyKind,
    SigningKey,
    cosign,
    generate_signing_key,
    parse_cosignature,
    parse_verifier_key,
    sign_note,
    sign_text,
)
from consent.eventlog.merkle import EMPTY_ROOT_HASH, hash_leaf
from consent.eventlog.signed_note import KEY_ID_BYTES, Note, NoteSignature, format_note, parse_note
from consent.eventlog.trust import Trust, TrustedKey
from tests.unit.consent.eventlog.signers import (
    COSIGNER_KEY,
    LOG_KEY,
    ORIGIN,
    SECOND_COSIGNER_KEY,
    THIRD_COSIGNER_KEY,
    TRUST,
    WITNESS_KEY,
    make_key,
    trusted,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "eventlog" / "checkpoint.json"
NOW = 1_700_000_000
CHECKPOINT = Checkpoint(ORIGIN, 3, hash_leaf(b"three leaves"))
TEXT = format_checkpoint_text(CHECKPOINT)
ROOT_LINE = TEXT.split("\n")[2]
MANY = replace(
    TRUST, cosigner_keys=trusted(COSIGNER_KEY, SECOND_COSIGNER_KEY, THIRD_COSIGNER_KEY), cosigner_threshold=2
)


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return content


def _signed(*lines: NoteSignature) -> bytes:
    return format_note(Note(TEXT, (sign_text(TEXT, LOG_KEY), *lines)))


def _cosigned(*signers: tuple[SigningKey, int]) -> bytes:
    return _signed(*(cosign(TEXT, key, time) for key, time in signers))


def test_parse_checkpoint_published_example_round_trips(vectors: dict[str, Any]) -> None:
    published = vectors["specification"]
    note = parse_note(published["note"].encode())
    checkpoint = parse_checkpoint_text(note.text)
    assert (checkpoint.origin, checkpoint.size) == (published["origin"], published["size"])
    assert format_checkpoint_text(checkpoint) == note.text
    assert published["root_hash"] in note.text
    assert format_note(note) == published["note"].encode()
    cosignature = parse_cosignature(note.signatures[1].signature)
    assert cosignature.time_unix_seconds == published["cosigner_time_unix_seconds"]


def test_verify_checkpoint_of_a_public_log_counts_its_four_witnesses(vectors: dict[str, Any]) -> None:
    published = vectors["witnessed"]
    cosigner_keys = [parse_verifier_key(text) for text in published["cosigner_verifier_keys"]]
    trust = Trust(
        tenant="public",
        origin=published["origin"],
        log_keys=(TrustedKey(parse_verifier_key(published["log_verifier_key"])),),
        cosigner_keys=tuple(map(TrustedKey, cosigner_keys)),
        cosigner_threshold=len(cosigner_keys),
    )
    verified = verify_checkpoint(published["note"].encode(), trust, None)
    assert (verified.checkpoint.size, verified.time_ms) == (
        published["size"],
        published["cosigned_unix_seconds"] * 1000,
    )
    assert set(verified.cosigner_names) == {key.name for key in cosigner_keys}
    altered = published["note"].replace(str(published["size"]), str(published["size"] + 1))
    with pytest.raises(InvalidSignature):
        verify_checkpoint(altered.encode(), trust, None)


def test_parse_cosignature_reads_the_time_that_the_reference_implementation_reads(vectors: dict[str, Any]) -> None:
    published = vectors["formats"]
    signature = base64.b64decode(published["line"])[KEY_ID_BYTES:]
    assert parse_cosignature(signature).time_unix_seconds == published["cosigner_time_unix_seconds"]
    with pytest.raises(InvalidSignature):
        parse_cosignature(base64.b64decode(published["line_of_a_log"])[KEY_ID_BYTES:])


def test_sign_checkpoint_gives_the_bytes_of_the_reference_implementation(vectors: dict[str, Any]) -> None:
    reference = vectors["reference"]
    log_key = generate_signing_key(ORIGIN, KeyKind.LOG, bytes.fromhex(reference["log_seed"]))
    cosigner_seed = bytes.fromhex(reference["cosigner_seed"])
    cosigner_key = generate_signing_key("cosigner.example.com/c1", KeyKind.COSIGNER, cosigner_seed)
    signed = sign_checkpoint(
        Checkpoint(ORIGIN, 1, hash_leaf(b"leaf")), log_key, cosigner_key, reference["cosigner_time_unix_seconds"]
    )
    assert signed == reference["note"].encode()


def test_verify_checkpoint_accepts_what_the_reference_implementation_signed(vectors: dict[str, Any]) -> None:
    reference = vectors["reference"]
    trust = Trust(
        tenant="tenant-a",
        origin=ORIGIN,
        log_keys=(TrustedKey(parse_verifier_key(reference["log_verifier_key"])),),
        cosigner_keys=(TrustedKey(parse_verifier_key(reference["cosigner_verifier_key"])),),
    )
    verified = verify_checkpoint(reference["note"].encode(), trust, None)
    assert verified.time_ms == reference["cosigner_time_unix_seconds"] * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        ORIGIN + "\n",
        f"{ORIGIN}\n3\n",
        f"{ORIGIN}\n3\n{ROOT_LINE}",
        f"\n3\n{ROOT_LINE}\n",
        f"{ORIGIN}\n\n{ROOT_LINE}\n",
        f"{ORIGIN}\n03\n{ROOT_LINE}\n",
        f"{ORIGIN}\n00\n{ROOT_LINE}\n",
        f"{ORIGIN}\n+3\n{ROOT_LINE}\n",
        f"{ORIGIN}\n-3\n{ROOT_LINE}\n",
        f"{ORIGIN}\n 3\n{ROOT_LINE}\n",
        f"{ORIGIN}\n3_0\n{ROOT_LINE}\n",
        f"{ORIGIN}\n3.0\n{ROOT_LINE}\n",
        f"{ORIGIN}\n0x3\n{ROOT_LINE}\n",
        f"{ORIGIN}\n\N{ARABIC-INDIC DIGIT THREE}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n{2**63}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n0\n{ROOT_LINE}\n",
        f"{ORIGIN}\n3\n\n",
        f"{ORIGIN}\n3\nAAAA\n",
        f"{ORIGIN}\n3\n{ROOT_LINE[:-1]}\n",
        f"{ORIGIN}\n3\n{ROOT_LINE} \n",
        f"{ORIGIN}\n3\n{ROOT_LINE[:-2]}B=\n",
        f"{ORIGIN}\n3\n{ROOT_LINE}\n\n",
        f"{ORIGIN}\n3\n{ROOT_LINE}\n\nextension\n",
        f"{ORIGIN}\n3\n{ROOT_LINE}\nextension\n\n",
        f"{ORIGIN}\0\n3\n{ROOT_LINE}\n",
        f"{ORIGIN}\r\n3\n{ROOT_LINE}\n",
        f"{ORIGIN}\ud800\n3\n{ROOT_LINE}\n",
    ],
)
def test_parse_checkpoint_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint_text(text)


def test_parse_checkpoint_extension_lines_are_kept() -> None:
    checkpoint = replace(CHECKPOINT, extensions=("first", "second \N{LINE SEPARATOR}line"))
    assert parse_checkpoint_text(format_checkpoint_text(checkpoint)) == checkpoint


def test_parse_checkpoint_empty_tree_has_its_one_root() -> None:
    checkpoint = Checkpoint(ORIGIN, 0, EMPTY_ROOT_HASH)
    assert parse_checkpoint_text(format_checkpoint_text(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"origin": ""}, "origin"),
        ({"origin": "a\nb"}, "origin"),
        ({"size": -1}, "size"),
        ({"size": 2**63}, "size"),
        ({"root_hash": bytes(31)}, "root_hash"),
        ({"size": 0}, "root_hash"),
        ({"extensions": ("",)}, "extensions"),
    ],
)
def test_checkpoint_that_cannot_be_written_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(MalformedCheckpoint, match=named):
        replace(CHECKPOINT, **changes)


def test_verify_checkpoint_signed_and_cosigned_is_accepted() -> None:
    note_bytes = sign_checkpoint(CHECKPOINT, LOG_KEY, COSIGNER_KEY, NOW)
    verified = verify_checkpoint(note_bytes, TRUST, NOW + 5)
    assert verified.checkpoint == CHECKPOINT
    assert verified.time_ms == NOW * 1000
    assert verified.note_bytes == note_bytes
    assert verified.cosigner_names == (COSIGNER_KEY.name,)


def test_verify_checkpoint_any_flipped_bit_is_refused() -> None:
    note_bytes = sign_checkpoint(CHECKPOINT, LOG_KEY, COSIGNER_KEY, NOW)
    for position in range(len(note_bytes)):
        for bit in range(8):
            flipped = bytearray(note_bytes)
            flipped[position] ^= 1 << bit
            with pytest.raises(EventLogError):
                verify_checkpoint(bytes(flipped), TRUST, NOW)


def test_sign_checkpoint_with_keys_of_other_roles_is_refused() -> None:
    with pytest.raises(WrongKeyKind, match="log_key"):
        sign_checkpoint(CHECKPOINT, COSIGNER_KEY, COSIGNER_KEY, NOW)
    with pytest.raises(WrongKeyKind):
        sign_checkpoint(CHECKPOINT, LOG_KEY, LOG_KEY, NOW)


def test_verify_checkpoint_of_another_log_is_refused() -> None:
    note_bytes = sign_checkpoint(replace(CHECKPOINT, origin="log.example.com/tenant-b"), LOG_KEY, COSIGNER_KEY, NOW)
    with pytest.raises(OriginMismatch) as caught:
        verify_checkpoint(note_bytes, TRUST, NOW)
    assert "tenant-b" not in str(caught.value)


def test_verify_checkpoint_text_that_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(MalformedCheckpoint):
        verify_checkpoint(sign_note("text\n", LOG_KEY), TRUST, NOW)
    with pytest.raises(MalformedNote):
        verify_checkpoint(TEXT.encode(), TRUST, NOW)


def test_verify_checkpoint_below_minimum_size_is_refused_when_new_and_accepted_from_the_past() -> None:
    note_bytes = sign_checkpoint(CHECKPOINT, LOG_KEY, COSIGNER_KEY, NOW)
    verify_checkpoint(note_bytes, replace(TRUST, minimum_size=3), NOW)
    with pytest.raises(BelowMinimumSize):
        verify_checkpoint(note_bytes, replace(TRUST, minimum_size=4), NOW)
    verify_checkpoint(note_bytes, replace(TRUST, minimum_size=4), None)


def test_verify_checkpoint_without_log_signature_is_refused() -> None:
    note_bytes = format_note(Note(TEXT, (cosign(TEXT, COSIGNER_KEY, NOW),)))
    with pytest.raises(InsufficientSignatures, match="log key"):
        verify_checkpoint(note_bytes, TRUST, NOW)


def test_verify_checkpoint_without_cosignature_is_refused() -> None:
    with pytest.raises(InsufficientSignatures, match="cosigners"):
        verify_checkpoint(_signed(), TRUST, NOW)


def test_verify_checkpoint_cosignature_by_the_log_key_alone_is_refused() -> None:
    thief = generate_signing_key(LOG_KEY.name, KeyKind.COSIGNER, LOG_KEY.seed())
    with pytest.raises(InsufficientSignatures, match="cosigners"):
        verify_checkpoint(_cosigned((thief, NOW)), TRUST, NOW)


def test_verify_checkpoint_lines_by_unknown_keys_are_ignored() -> None:
    stranger = NoteSignature("stranger.example.com", bytes(4), b"of a kind nobody knows")
    forged_name = NoteSignature(COSIGNER_KEY.name, bytes(4), bytes(72))
    note_bytes = _signed(stranger, forged_name, cosign(TEXT, COSIGNER_KEY, NOW), cosign(TEXT, WITNESS_KEY, NOW + 9))
    verified = verify_checkpoint(note_bytes, TRUST, NOW)
    assert (verified.time_ms, verified.cosigner_names) == (NOW * 1000, (COSIGNER_KEY.name,))


@pytest.mark.parametrize("key", [LOG_KEY, COSIGNER_KEY, SECOND_COSIGNER_KEY], ids=repr)
def test_verify_checkpoint_known_bad_line_beside_enough_good_ones_is_refused(key: SigningKey) -> None:
    bad = NoteSignature(key.name, key.key_id, NOW.to_bytes(8, "big") + bytes(64))
    lines = [cosign(TEXT, cosigner, NOW) for cosigner in (COSIGNER_KEY, SECOND_COSIGNER_KEY, THIRD_COSIGNER_KEY)]
    with pytest.raises(InvalidSignature):
        verify_checkpoint(_signed(*lines, bad), MANY, NOW)


def test_verify_checkpoint_signature_over_another_text_is_refused() -> None:
    other = format_checkpoint_text(replace(CHECKPOINT, size=4))
    swapped = format_note(Note(other, parse_note(_cosigned((COSIGNER_KEY, NOW))).signatures))
    with pytest.raises(InvalidSignature):
        verify_checkpoint(swapped, TRUST, NOW)


def test_verify_checkpoint_threshold_not_met_is_refused() -> None:
    with pytest.raises(InsufficientSignatures, match="cosigners"):
        verify_checkpoint(_cosigned((COSIGNER_KEY, NOW)), MANY, NOW)


def test_verify_checkpoint_one_cosigner_twice_counts_once() -> None:
    with pytest.raises(InsufficientSignatures, match="cosigners"):
        verify_checkpoint(_cosigned((COSIGNER_KEY, NOW), (COSIGNER_KEY, NOW + 1)), MANY, NOW)


def test_verify_checkpoint_one_cosigner_with_old_and_new_key_counts_once() -> None:
    new_key = make_key(COSIGNER_KEY.name, KeyKind.COSIGNER, 1)
    trust = replace(MANY, cosigner_keys=(*MANY.cosigner_keys, *trusted(new_key)))
    with pytest.raises(InsufficientSignatures, match="cosigners"):
        verify_checkpoint(_cosigned((COSIGNER_KEY, NOW), (new_key, NOW)), trust, NOW)
    verified = verify_checkpoint(_cosigned((new_key, NOW), (SECOND_COSIGNER_KEY, NOW)), trust, NOW)
    assert set(verified.cosigner_names) == {COSIGNER_KEY.name, SECOND_COSIGNER_KEY.name}


def test_verify_checkpoint_one_cosigner_twice_counts_at_its_newest_time() -> None:
    note_bytes = _cosigned((COSIGNER_KEY, NOW + 1), (COSIGNER_KEY, NOW))
    assert verify_checkpoint(note_bytes, TRUST, NOW).time_ms == (NOW + 1) * 1000


@pytest.mark.parametrize(("threshold", "seconds"), [(1, 900), (2, 20), (3, 10)])
def test_verify_checkpoint_time_is_that_of_the_kth_newest_cosigner(threshold: int, seconds: int) -> None:
    note_bytes = _cosigned((COSIGNER_KEY, NOW + 20), (SECOND_COSIGNER_KEY, NOW + 900), (THIRD_COSIGNER_KEY, NOW + 10))
    verified = verify_checkpoint(note_bytes, replace(MANY, cosigner_threshold=threshold), NOW)
    assert verified.time_ms == (NOW + seconds) * 1000
    assert verified.cosigner_names == (SECOND_COSIGNER_KEY.name, COSIGNER_KEY.name, THIRD_COSIGNER_KEY.name)


def test_verify_checkpoint_time_fits_64_bits_of_milliseconds() -> None:
    verified = verify_checkpoint(_cosigned((COSIGNER_KEY, MAX_TIME_UNIX_SECONDS)), TRUST, NOW)
    assert verified.time_ms < 2**63


VALIDITY = [
    # not_before, not_after, signed at, now, accepted
    (NOW, NOW + 10, NOW, NOW, True),
    (NOW, NOW + 10, NOW + 10, NOW + 10, True),
    (NOW, NOW + 10, NOW - 1, NOW, False),
    (NOW, NOW + 10, NOW + 11, NOW, False),
    (NOW, NOW + 10, NOW + 10, NOW + 11, False),
    (NOW, NOW + 10, NOW, NOW - 1, False),
    (NOW, NOW + 10, NOW + 10, None, True),
    (NOW, NOW + 10, NOW + 11, None, False),
    (NOW, None, NOW + 10**9, NOW + 10**9, True),
    (None, NOW, 0, NOW, True),
    (None, NOW, NOW, NOW + 1, False),
]


@pytest.mark.parametrize("role", ["log_keys", "cosigner_keys"])
@pytest.mark.parametrize(("not_before", "not_after", "signed_at", "now", "is_accepted"), VALIDITY)
def test_verify_checkpoint_key_counts_only_while_in_force(
    role: str, not_before: int | None, not_after: int | None, signed_at: int, now: int | None, *, is_accepted: bool
) -> None:
    key = LOG_KEY if role == "log_keys" else COSIGNER_KEY
    changes: dict[str, Any] = {role: (TrustedKey(key.verifier_key, not_before, not_after),)}
    trust = replace(TRUST, **changes)
    note_bytes = sign_checkpoint(CHECKPOINT, LOG_KEY, COSIGNER_KEY, signed_at)
    if is_accepted:
        assert verify_checkpoint(note_bytes, trust, now).time_ms == signed_at * 1000
    else:
        with pytest.raises(KeyExpired):
            verify_checkpoint(note_bytes, trust, now)


def test_verify_checkpoint_bad_line_by_expired_key_is_refused_as_tampering() -> None:
    expired = TrustedKey(SECOND_COSIGNER_KEY.verifier_key, None, NOW - 1)
    trust = replace(TRUST, cosigner_keys=(*TRUST.cosigner_keys, expired))
    bad = NoteSignature(SECOND_COSIGNER_KEY.name, SECOND_COSIGNER_KEY.key_id, bytes(72))
    with pytest.raises(InvalidSignature):
        verify_checkpoint(_signed(cosign(TEXT, COSIGNER_KEY, NOW), bad), trust, NOW)


def test_verify_checkpoint_log_key_rotation_either_key_will_do() -> None:
    new_key = make_key(ORIGIN, KeyKind.LOG, 1)
    trust = replace(TRUST, log_keys=(TrustedKey(LOG_KEY.verifier_key, None, NOW), *trusted(new_key)))
    for key in (LOG_KEY, new_key):
        verify_checkpoint(sign_checkpoint(CHECKPOINT, key, COSIGNER_KEY, NOW), trust, NOW)
    with pytest.raises(KeyExpired, match="log keys"):
        verify_checkpoint(sign_checkpoint(CHECKPOINT, LOG_KEY, COSIGNER_KEY, NOW + 1), trust, NOW + 1)
