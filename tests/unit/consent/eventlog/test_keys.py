import base64
import copy
import json
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.errors import (
    InsufficientSignatures,
    InvalidSignature,
    MalformedKey,
    MalformedNote,
    WrongKeyKind,
)
from consent.eventlog.keys import (
    MAX_TIME_UNIX_SECONDS,
    KeyKind,
    VerifierKey,
    cosign,
    format_signing_key,
    format_verifier_key,
    generate_signing_key,
    parse_cosignature,
    parse_signing_key,
    parse_verifier_key,
    sign_note,
    sign_text,
    verified_signatures,
    verify_note,
    verify_text_signature,
)
from consent.eventlog.signed_note import Note, NoteSignature, parse_note
from tests.unit.consent.eventlog.signers import APPROVER_KEY, COSIGNER_KEY, LOG_KEY, ROOT_KEY, SOURCE_KEY

VECTORS = Path(__file__).parents[3] / "vectors" / "eventlog" / "signed_note.json"
TEXT = "log.example.com/tenant-a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
NOW = 1_700_000_000
EVERY_KEY = [LOG_KEY, COSIGNER_KEY, SOURCE_KEY, APPROVER_KEY]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return content


def test_verify_note_published_example_verifies_under_its_published_key(vectors: dict[str, Any]) -> None:
    published = vectors["specification"]
    key = parse_verifier_key(published["verifier_key"])
    assert (key.name, key.kind, key.key_id.hex()) == ("example.com/foo", KeyKind.LOG, "530d903a")
    assert format_verifier_key(key) == published["verifier_key"]
    verify_note(parse_note(published["note"].encode()), key)


def test_sign_note_gives_the_bytes_that_go_publishes(vectors: dict[str, Any]) -> None:
    published = vectors["go"]
    key = parse_signing_key(published["signing_key"])
    assert format_verifier_key(key.verifier_key) == published["verifier_keys"][0]
    assert sign_note(published["text"], key) == published["note"].encode()


def test_verified_signatures_of_gos_note_by_two_are_both(vectors: dict[str, Any]) -> None:
    published = vectors["go"]
    keys = [parse_verifier_key(text) for text in published["verifier_keys"]]
    note = parse_note(published["note_of_two"].encode())
    assert [key for key, _ in verified_signatures(note, *keys)] == keys
    altered = Note(note.text.replace("cryptography", "cryptographY"), note.signatures)
    for key in keys:
        with pytest.raises(InvalidSignature):
            verify_note(altered, key)


def test_sign_note_gives_the_bytes_of_the_reference_implementation(vectors: dict[str, Any]) -> None:
    reference = vectors["reference"]
    key = generate_signing_key(reference["name"], KeyKind.LOG, bytes.fromhex(reference["seed"]))
    assert format_signing_key(key) == reference["signing_key"]
    assert format_verifier_key(key.verifier_key) == reference["verifier_key"]
    assert parse_signing_key(reference["signing_key"]) == key
    assert sign_note(reference["text"], key) == reference["note"].encode()


@pytest.mark.parametrize("key", EVERY_KEY, ids=repr)
def test_key_texts_of_every_kind_round_trip(key: Any) -> None:
    assert parse_verifier_key(format_verifier_key(key.verifier_key)) == key.verifier_key
    parsed = parse_signing_key(format_signing_key(key))
    assert (parsed, parsed.seed()) == (key, key.seed())


def test_key_id_depends_on_name_kind_and_public_key() -> None:
    key = LOG_KEY.verifier_key
    expected = sha256(key.name.encode() + b"\n\x01" + key.public_key).digest()[:4]
    others = {
        VerifierKey(key.name + "x", key.kind, key.public_key).key_id,
        VerifierKey(key.name, KeyKind.COSIGNER, key.public_key).key_id,
        VerifierKey(key.name, KeyKind.SOURCE, key.public_key).key_id,
        VerifierKey(key.name, key.kind, ROOT_KEY.verifier_key.public_key).key_id,
    }
    assert key.key_id == expected
    assert len(others | {expected}) == 5


def _key_text(name: str, content: bytes, key_id: str | None = None) -> str:
    own_id = sha256(name.encode() + b"\n" + content).digest()[:4].hex()
    return f"{name}+{own_id if key_id is None else key_id}+{base64.b64encode(content).decode()}"


VALID = _key_text("a.example", b"\x01" + bytes(32))
MALFORMED_KEYS = {
    "empty": "",
    "name alone": "a.example",
    "no key": "a.example+00000000",
    "no key id": VALID.replace(VALID.split("+")[1], ""),
    "key id of another key": _key_text("a.example", b"\x01" + bytes(32), "00000000"),
    "key id in capitals": _key_text("a.example", b"\x01" + bytes(32), VALID.split("+")[1].upper()),
    "no name": _key_text("", b"\x01" + bytes(32)),
    "space in the name": _key_text("a example", b"\x01" + bytes(32)),
    "newline in the name": _key_text("a\nexample", b"\x01" + bytes(32)),
    "newline at the end": VALID + "\n",
    "space before": " " + VALID,
    "unknown type": _key_text("a.example", b"\x05" + bytes(32)),
    "unknown private type": _key_text("a.example", b"\xffconsentry/source/v2" + bytes(32)),
    "key too short": _key_text("a.example", b"\x01" + bytes(31)),
    "key too long": _key_text("a.example", b"\x01" + bytes(33)),
    "no bytes": "a.example+00000000+",
    "not base64": VALID[:-1] + "*",
    "not canonical base64": _key_text("a.example", b"\xffconsentry/source/v1" + bytes(32))[:-2] + "B=",
    "surrogate in the name": VALID.replace("a.example", "\ud800"),
}


def test_malformed_keys_differ_from_a_valid_one_only_in_what_they_name() -> None:
    assert parse_verifier_key(VALID).name == "a.example"
    parse_verifier_key(_key_text("a.example", b"\xffconsentry/source/v1" + bytes(32)))


@pytest.mark.parametrize("text", MALFORMED_KEYS.values(), ids=MALFORMED_KEYS.keys())
def test_parse_verifier_key_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse_verifier_key(text)


@pytest.mark.parametrize("text", MALFORMED_KEYS.values(), ids=MALFORMED_KEYS.keys())
def test_parse_signing_key_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedKey):
        parse_signing_key("PRIVATE+KEY+" + text)


def test_parse_signing_key_public_key_is_refused() -> None:
    with pytest.raises(MalformedKey, match="not a private key"):
        parse_signing_key(format_verifier_key(LOG_KEY.verifier_key))


def test_parse_verifier_key_private_key_is_refused() -> None:
    with pytest.raises(MalformedKey):
        parse_verifier_key(format_signing_key(LOG_KEY))


@pytest.mark.parametrize("seed_bytes", [0, 31, 33, 64])
def test_generate_signing_key_seed_of_other_length_is_refused(seed_bytes: int) -> None:
    with pytest.raises(MalformedKey, match="seed"):
        generate_signing_key("a.example", KeyKind.LOG, bytes(seed_bytes))


def test_verifier_key_of_other_length_is_refused() -> None:
    with pytest.raises(MalformedKey, match="public_key"):
        VerifierKey("a.example", KeyKind.LOG, bytes(31))


def test_signing_key_shows_its_secret_to_nobody_who_does_not_ask() -> None:
    secret = LOG_KEY.seed()
    shown = f"{LOG_KEY} {LOG_KEY!r} {[LOG_KEY]}"
    assert secret.hex() not in shown
    assert base64.b64encode(secret).decode() not in shown
    assert not hasattr(LOG_KEY, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(LOG_KEY)


def test_verifier_key_can_be_copied_and_sent_to_another_process() -> None:
    key = LOG_KEY.verifier_key
    assert copy.deepcopy(key) == pickle.loads(pickle.dumps(key)) == key


def test_signing_key_equality_is_that_of_the_verifier_key() -> None:
    again = parse_signing_key(format_signing_key(LOG_KEY))
    assert again == LOG_KEY
    assert hash(again) == hash(LOG_KEY)
    assert LOG_KEY not in (ROOT_KEY, LOG_KEY.verifier_key)


@pytest.mark.parametrize("key", [LOG_KEY, SOURCE_KEY, APPROVER_KEY], ids=repr)
def test_sign_text_verifies_under_its_key_and_no_other_text(key: Any) -> None:
    signature = sign_text("text\n", key)
    verify_text_signature("text\n", signature, key.verifier_key)
    with pytest.raises(InvalidSignature):
        verify_text_signature("test\n", signature, key.verifier_key)


def test_sign_text_with_cosigner_key_is_refused() -> None:
    with pytest.raises(WrongKeyKind):
        sign_note("text\n", COSIGNER_KEY)


@pytest.mark.parametrize("text", ["", "text", "a\0\n", "\ud800\n"])
def test_sign_text_that_no_note_can_hold_is_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        sign_text(text, LOG_KEY)
    with pytest.raises(MalformedNote):
        cosign(text, COSIGNER_KEY, NOW)


def test_sign_note_without_key_is_refused() -> None:
    with pytest.raises(MalformedNote, match="signatures"):
        sign_note("text\n")


def test_cosign_signs_header_time_and_text() -> None:
    signature = cosign(TEXT, COSIGNER_KEY, NOW)
    message = b"cosignature/v1\ntime 1700000000\n" + TEXT.encode()
    assert signature.signature == NOW.to_bytes(8, "big") + COSIGNER_KEY.sign(message)
    assert parse_cosignature(signature.signature) == (NOW, COSIGNER_KEY.sign(message))
    verify_text_signature(TEXT, signature, COSIGNER_KEY.verifier_key)


def test_cosign_with_log_key_is_refused() -> None:
    with pytest.raises(WrongKeyKind):
        cosign(TEXT, LOG_KEY, NOW)


@pytest.mark.parametrize("time_unix_seconds", [-1, MAX_TIME_UNIX_SECONDS + 1])
def test_cosign_time_out_of_range_is_refused(time_unix_seconds: int) -> None:
    with pytest.raises(InvalidSignature, match="time"):
        cosign(TEXT, COSIGNER_KEY, time_unix_seconds)


@pytest.mark.parametrize(
    "signature", [b"", bytes(71), bytes(73), (MAX_TIME_UNIX_SECONDS + 1).to_bytes(8, "big") + bytes(64)]
)
def test_parse_cosignature_malformed_bytes_are_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        parse_cosignature(signature)


def test_verify_cosignature_with_another_time_is_refused() -> None:
    signature = cosign(TEXT, COSIGNER_KEY, NOW)
    later = NoteSignature(signature.name, signature.key_id, (NOW + 1).to_bytes(8, "big") + signature.signature[8:])
    with pytest.raises(InvalidSignature):
        verify_text_signature(TEXT, later, COSIGNER_KEY.verifier_key)


def test_verify_text_signature_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="another key"):
        verify_text_signature("text\n", sign_text("text\n", LOG_KEY), ROOT_KEY.verifier_key)


@pytest.mark.parametrize("length", [1, 63, 65])
def test_verify_text_signature_of_other_length_is_refused(length: int) -> None:
    signature = NoteSignature(LOG_KEY.name, LOG_KEY.key_id, bytes(length))
    with pytest.raises(InvalidSignature):
        verify_text_signature("text\n", signature, LOG_KEY.verifier_key)


def test_verify_note_unknown_lines_are_ignored() -> None:
    same_name = NoteSignature(LOG_KEY.name, ROOT_KEY.key_id, b"other key of that name")
    same_id = NoteSignature(ROOT_KEY.name, LOG_KEY.key_id, b"other name with that id")
    note = Note("text\n", (same_name, sign_text("text\n", LOG_KEY), same_id))
    verify_note(note, LOG_KEY.verifier_key)
    assert verified_signatures(note, LOG_KEY.verifier_key) == ((LOG_KEY.verifier_key, note.signatures[1]),)


def test_verify_note_without_a_known_line_is_refused() -> None:
    note = parse_note(sign_note("text\n", ROOT_KEY))
    with pytest.raises(InsufficientSignatures):
        verify_note(note, LOG_KEY.verifier_key)
    with pytest.raises(InsufficientSignatures):
        verify_note(note)


@pytest.mark.parametrize("bad_first", [True, False])
def test_verify_note_known_bad_line_beside_a_good_one_is_refused(bad_first: bool) -> None:
    lines = [NoteSignature(LOG_KEY.name, LOG_KEY.key_id, bytes(64)), sign_text("text\n", LOG_KEY)]
    note = Note("text\n", tuple(lines if bad_first else lines[::-1]))
    with pytest.raises(InvalidSignature):
        verify_note(note, LOG_KEY.verifier_key)
