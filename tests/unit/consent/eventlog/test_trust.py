import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consent.eventlog.errors import (
    InsufficientSignatures,
    InvalidSignature,
    MalformedNote,
    MalformedTrustFile,
    WrongKeyKind,
)
from consent.eventlog.keys import (
    MAX_TIME_UNIX_SECONDS,
    KeyKind,
    format_signing_key,
    format_verifier_key,
    generate_signing_key,
    sign_note,
)
from consent.eventlog.trust import SourceRights, Trust, TrustedKey, format_trust, open_trust, parse_trust, seal_trust
from tests.unit.consent.eventlog.signers import (
    APPROVER_KEY,
    COSIGNER_KEY,
    LOG_KEY,
    ORIGIN,
    ROOT_KEY,
    SECOND_COSIGNER_KEY,
    SOURCE_KEY,
    TRUST,
    WITNESS_KEY,
    make_key,
    trusted,
)

RIGHTS = SourceRights("web", ("email", "Ümlaut"), ("newsletter",), max_proof=2, max_assurance=0)
FULL = Trust(
    tenant="Überall",
    origin=ORIGIN,
    log_keys=(TrustedKey(LOG_KEY.verifier_key, 100, 200), *trusted(make_key(ORIGIN, KeyKind.LOG, 1))),
    cosigner_keys=(*trusted(COSIGNER_KEY), TrustedKey(SECOND_COSIGNER_KEY.verifier_key, not_after_unix_seconds=0)),
    cosigner_threshold=2,
    minimum_size=2**63 - 1,
    source_keys=(TrustedKey(SOURCE_KEY.verifier_key, rights=RIGHTS, last_seq=7),),
    approver_keys=(TrustedKey(APPROVER_KEY.verifier_key, last_seq=0),),
    witness_keys=trusted(WITNESS_KEY),
    witness_threshold=1,
    approver_threshold=3,
)


def test_format_trust_is_one_sorted_line_without_spaces() -> None:
    keys = {key: format_verifier_key(key.verifier_key) for key in (LOG_KEY, COSIGNER_KEY)}
    assert format_trust(TRUST) == (
        '{"approver_keys":[],"approver_threshold":2,"cosigner_keys":[{"key":"'
        + keys[COSIGNER_KEY]
        + '"}],"cosigner_threshold":1,'
        '"format":"consentry/trust/v1","log_keys":[{"key":"' + keys[LOG_KEY] + '"}],"minimum_size":1,'
        '"origin":"log.example.com/tenant-a","source_keys":[],"tenant":"tenant-a","witness_keys":[],'
        '"witness_threshold":0}\n'
    )


def test_parse_trust_reads_back_every_field() -> None:
    assert parse_trust(format_trust(FULL)) == FULL
    assert "Überall" in format_trust(FULL)


def test_open_trust_gives_what_seal_trust_sealed() -> None:
    assert open_trust(seal_trust(FULL, ROOT_KEY), ROOT_KEY.verifier_key) == FULL


def test_open_trust_sealed_by_another_key_is_refused() -> None:
    with pytest.raises(InsufficientSignatures):
        open_trust(seal_trust(TRUST, LOG_KEY), ROOT_KEY.verifier_key)


def test_open_trust_altered_text_is_refused() -> None:
    altered = seal_trust(TRUST, ROOT_KEY).replace(b'"minimum_size":1', b'"minimum_size":0')
    with pytest.raises(InvalidSignature):
        open_trust(altered, ROOT_KEY.verifier_key)


def test_open_trust_sealed_text_that_is_no_trust_file_is_refused() -> None:
    with pytest.raises(MalformedTrustFile):
        open_trust(sign_note("text\n", ROOT_KEY), ROOT_KEY.verifier_key)
    with pytest.raises(MalformedNote):
        open_trust(format_trust(TRUST).encode(), ROOT_KEY.verifier_key)


def test_seal_and_open_trust_with_key_of_another_kind_is_refused() -> None:
    with pytest.raises(WrongKeyKind):
        seal_trust(TRUST, SOURCE_KEY)
    with pytest.raises(WrongKeyKind):
        open_trust(seal_trust(TRUST, ROOT_KEY), SOURCE_KEY.verifier_key)


def test_trust_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def _changed(change: Callable[[dict[str, Any]], object]) -> str:
    content = json.loads(format_trust(TRUST))
    change(content)
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def _set(**fields: Any) -> str:
    return _changed(lambda content: content.update(fields))


def _set_key(**fields: Any) -> str:
    return _changed(lambda content: content["log_keys"][0].update(fields))


def _set_source(**fields: Any) -> str:
    key = TrustedKey(SOURCE_KEY.verifier_key, rights=RIGHTS)
    content = json.loads(format_trust(replace(TRUST, source_keys=(key,))))
    content["source_keys"][0]["rights"].update(fields)
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


VALID = format_trust(TRUST)
MALFORMED = {
    "empty": ("", "not JSON"),
    "not JSON": ("{\n", "not JSON"),
    "null": ("null\n", "exactly the fields"),
    "list": ("[]\n", "exactly the fields"),
    "empty object": ("{}\n", "exactly the fields"),
    "deeply nested": ("[" * 100_000 + "\n", "not JSON"),
    "number too long to read": (VALID.replace('"minimum_size":1', '"minimum_size":' + "9" * 5000), "not JSON"),
    "NaN": (VALID.replace('"minimum_size":1', '"minimum_size":NaN'), "JSON does not have"),
    "field twice": (VALID.replace('"minimum_size":1', '"minimum_size":1,"minimum_size":1'), "stands twice"),
    "no newline at the end": (VALID[:-1], "canonical"),
    "space": (VALID.replace(":", ": ", 1), "canonical"),
    "escaped letter": (VALID.replace("tenant-a", "\\u0074enant-a"), "canonical"),
    "other order": (json.dumps(dict(reversed(json.loads(VALID).items())), separators=(",", ":")) + "\n", "canonical"),
    "field missing": (_changed(lambda content: content.pop("minimum_size")), "exactly the fields"),
    "field unknown": (_set(extra=1), "exactly the fields"),
    "format unknown": (_set(format="consentry/trust/v2"), "format"),
    "tenant not a string": (_set(tenant=1), "tenant"),
    "tenant empty": (_set(tenant=""), "tenant"),
    "tenant with newline": (_set(tenant="a\nb"), "tenant"),
    "tenant with surrogate": (VALID.replace('"tenant":"tenant-a"', '"tenant":"\\ud800"'), "tenant"),
    "origin not a string": (_set(origin=None), "origin"),
    "origin empty": (_set(origin=""), "origin"),
    "minimum size negative": (_set(minimum_size=-1), "minimum_size"),
    "minimum size over the limit": (_set(minimum_size=2**63), "minimum_size"),
    "minimum size a string": (_set(minimum_size="1"), "minimum_size"),
    "minimum size a fraction": (_set(minimum_size=1.0), "minimum_size"),
    "minimum size a truth": (_set(minimum_size=True), "minimum_size"),
    "threshold zero": (_set(cosigner_threshold=0), "cosigner_threshold"),
    "threshold above the cosigners": (_set(cosigner_threshold=2), "cosigner_threshold"),
    "log keys not a list": (_set(log_keys={}), "log_keys: must be a list"),
    "log keys empty": (_set(log_keys=[]), "log_keys"),
    "key not an object": (_set(log_keys=["key"]), "an object"),
    "key without key": (_set(log_keys=[{}]), "an object"),
    "key not a string": (_set_key(key=1), "a string"),
    "key malformed": (_set_key(key="a+b+c"), "base64"),
    "key private": (_set_key(key=format_signing_key(LOG_KEY)), "key id"),
    "key of another kind": (_set_key(key=format_verifier_key(SOURCE_KEY.verifier_key)), "another kind"),
    "key field unknown": (_set_key(comment="mine"), "at most"),
    "key time null": (_set_key(not_before_unix_seconds=None), "whole number"),
    "key time a string": (_set_key(not_before_unix_seconds="1"), "whole number"),
    "key time negative": (_set_key(not_before_unix_seconds=-1), "order"),
    "key time over the limit": (_set_key(not_after_unix_seconds=MAX_TIME_UNIX_SECONDS + 1), "order"),
    "key times in wrong order": (_set_key(not_before_unix_seconds=2, not_after_unix_seconds=1), "order"),
    "witnesses fewer than needed": (_set(witness_threshold=1), "witness_threshold"),
    "witness threshold negative": (_set(witness_threshold=-1), "witness_threshold"),
    "one approver enough": (_set(approver_threshold=1), "approver_threshold"),
    "last entry of a log's key": (_set_key(last_seq=3), "last_seq"),
    "last entry negative": (_set_key(last_seq=-1), "last_seq"),
    "rights of a log's key": (_set_key(rights=json.loads(_set_source())["source_keys"][0]["rights"]), "rights"),
    "rights not an object": (_set_key(rights=[]), "rights"),
    "rights with a field too many": (_set_source(more=1), "exactly"),
    "rights without a source": (_set_source(source=1), "source: must be a string"),
    "rights with one purpose instead of a list": (_set_source(purposes="*"), "purposes: must be a list"),
    "rights with a purpose that is no name": (_set_source(purposes=[""]), "rights"),
    "rights with a negative proof": (_set_source(max_proof=-1), "max_proof"),
    "rights with a truth for a proof": (_set_source(max_proof=True), "max_proof"),
    "key twice": (_changed(lambda content: content["log_keys"].append(content["log_keys"][0])), "two places"),
}


@pytest.mark.parametrize(("text", "named"), MALFORMED.values(), ids=MALFORMED.keys())
def test_parse_trust_malformed_text_is_refused(text: str, named: str) -> None:
    with pytest.raises(MalformedTrustFile, match=named):
        parse_trust(text)


def test_parse_trust_wrong_key_is_named_by_place_and_not_quoted() -> None:
    text = _changed(lambda content: content["log_keys"].append({"key": "alice@example.com"}))
    with pytest.raises(MalformedTrustFile, match=r"log_keys\[1\]\.key") as caught:
        parse_trust(text)
    assert "alice" not in str(caught.value)


@pytest.mark.parametrize("key_list", ["log_keys", "cosigner_keys", "source_keys", "approver_keys", "witness_keys"])
def test_trust_list_with_key_of_another_kind_is_refused(key_list: str) -> None:
    wrong = SOURCE_KEY if key_list != "source_keys" else APPROVER_KEY
    changes: dict[str, Any] = {key_list: trusted(wrong)}
    with pytest.raises(MalformedTrustFile, match=key_list):
        replace(TRUST, **changes)


@pytest.mark.parametrize(
    ("key_list", "kind"),
    [
        ("cosigner_keys", KeyKind.COSIGNER),
        ("source_keys", KeyKind.SOURCE),
        ("approver_keys", KeyKind.APPROVER),
        ("witness_keys", KeyKind.COSIGNER),
    ],
)
def test_trust_log_key_in_a_second_role_is_refused(key_list: str, kind: KeyKind) -> None:
    second_role = generate_signing_key("other.example.com", kind, LOG_KEY.seed())
    rights = RIGHTS if key_list == "source_keys" else None
    changes: dict[str, Any] = {key_list: (TrustedKey(second_role.verifier_key, rights=rights),)}
    with pytest.raises(MalformedTrustFile, match="two places"):
        replace(TRUST, **changes)


def test_trust_threshold_does_not_count_two_keys_of_one_cosigner() -> None:
    both_keys = trusted(COSIGNER_KEY, make_key(COSIGNER_KEY.name, KeyKind.COSIGNER, 1))
    replace(TRUST, cosigner_keys=both_keys)
    with pytest.raises(MalformedTrustFile, match="cosigner_threshold"):
        replace(TRUST, cosigner_keys=both_keys, cosigner_threshold=2)


def test_trust_without_cosigner_is_refused() -> None:
    with pytest.raises(MalformedTrustFile, match="cosigner_threshold"):
        replace(TRUST, cosigner_keys=())


def test_trust_source_without_rights_is_refused() -> None:
    with pytest.raises(MalformedTrustFile, match="rights"):
        replace(TRUST, source_keys=trusted(SOURCE_KEY))


def test_trust_witness_threshold_does_not_count_two_keys_of_one_witness() -> None:
    both_keys = trusted(WITNESS_KEY, make_key(WITNESS_KEY.name, KeyKind.COSIGNER, 1))
    replace(TRUST, witness_keys=both_keys, witness_threshold=1)
    with pytest.raises(MalformedTrustFile, match="witness_threshold"):
        replace(TRUST, witness_keys=both_keys, witness_threshold=2)


def test_key_covers_entries_up_to_its_last() -> None:
    key = TrustedKey(APPROVER_KEY.verifier_key, last_seq=5)
    assert [key.covers(seq) for seq in (1, 5, 6)] == [True, True, False]
    assert TrustedKey(APPROVER_KEY.verifier_key).covers(2**62)
