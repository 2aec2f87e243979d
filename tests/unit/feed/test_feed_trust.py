"""A feed does not start on settings that its sidecars' trust file does not cover; the text says which."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.keys import KeyKind, VerifierKey, format_signing_key, format_verifier_key, generate_signing_key
from consent.eventlog.trust import SourceRights, Trust, TrustedKey, seal_trust
from feed.config import FeedSettings
from feed.errors import TrustMismatch
from feed.trust import load_feed_trust, load_import_source, load_sources
from hosting.errors import KeyFileError, UnusableStartFile
from tests.fakes.installation import ORIGIN, TENANT
from tests.fakes.signers import source_key

LOG_KEY = generate_signing_key(ORIGIN, KeyKind.LOG, bytes([1] * 32))
ROOT_KEY = generate_signing_key("root", KeyKind.LOG, bytes([3] * 32))
WEB_KEY = source_key("web")
NARROW = SourceRights("web", ("email",), ("newsletter",), max_proof=1, max_assurance=1)
TRUST = Trust(
    tenant=TENANT,
    origin=ORIGIN,
    log_keys=(TrustedKey(LOG_KEY.verifier_key),),
    cosigner_keys=(TrustedKey(generate_signing_key("cosigner", KeyKind.COSIGNER, bytes([2] * 32)).verifier_key),),
    source_keys=(TrustedKey(WEB_KEY.verifier_key, rights=NARROW),),
)
WITHIN: dict[str, Any] = {
    "namespaces": ["email"],
    "purposes": ["newsletter"],
    "max_proof": 1,
    "max_assurance": 1,
}


def make_settings(directory: Path, source: dict[str, Any] | None = None, **changes: Any) -> FeedSettings:
    key_file = directory / "web.key"
    if not key_file.exists():
        key_file.write_text(f"{format_signing_key(WEB_KEY)}\n", encoding="ascii")
        key_file.chmod(0o600)
    web = {"name": "web", "address": f"unix://{directory}/web.sock", "signing_key_file": key_file} | WITHIN
    base: dict[str, Any] = {
        "tenant": TENANT,
        "origin": ORIGIN,
        "trust": {"file": directory / "trust.note", "root_key_file": directory / "root.pub"},
        "event_log": {"directory": directory / "log", "keys_directory": directory / "keys"},
        "sync": {"address": f"unix://{directory}/sync.sock"},
        "sources": [web | (source or {})],
        "admin_address": f"unix://{directory}/admin.sock",
    }
    return FeedSettings.model_validate(base | changes)


def write_trust(directory: Path, trust: Trust) -> None:
    (directory / "trust.note").write_bytes(seal_trust(trust, ROOT_KEY))
    (directory / "root.pub").write_text(f"{format_verifier_key(ROOT_KEY.verifier_key)}\n", encoding="ascii")


def load(directory: Path, trust: Trust = TRUST, log_key: VerifierKey = LOG_KEY.verifier_key, **changes: Any) -> Trust:
    write_trust(directory, trust)
    return load_feed_trust(make_settings(directory, **changes), log_key)


def test_feed_trust_that_fits_is_taken(tmp_path: Path) -> None:
    assert load(tmp_path) == TRUST
    (web,) = load_sources(make_settings(tmp_path), TRUST)
    assert (web.name, web.signing_key) == ("web", WEB_KEY)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trust": replace(TRUST, origin="other.example/log")}, "^origin: "),
        ({"trust": replace(TRUST, tenant="other")}, "^tenant: "),
        ({"log_key": generate_signing_key(ORIGIN, KeyKind.LOG, bytes([9] * 32)).verifier_key}, "log's key"),
    ],
)
def test_feed_trust_of_another_log_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(TrustMismatch, match=text):
        load(tmp_path, **changes)


def test_feed_trust_signed_by_somebody_else_is_refused(tmp_path: Path) -> None:
    write_trust(tmp_path, TRUST)
    other = generate_signing_key("root", KeyKind.LOG, os.urandom(32)).verifier_key
    (tmp_path / "root.pub").write_text(f"{format_verifier_key(other)}\n", encoding="ascii")
    with pytest.raises(UnusableStartFile, match=r"trust\.note"):
        load_feed_trust(make_settings(tmp_path), LOG_KEY.verifier_key)


@pytest.mark.parametrize(
    ("excess", "setting"),
    [
        ({"namespaces": ["email", "phone"]}, "namespaces"),
        ({"namespaces": ["*"]}, "namespaces"),
        ({"purposes": ["*"]}, "purposes"),
        ({"max_proof": 2}, "max_proof"),
        ({"max_assurance": 2}, "max_assurance"),
    ],
)
def test_source_set_up_for_more_than_its_key_is_refused_by_the_setting(
    tmp_path: Path, excess: dict[str, Any], setting: str
) -> None:
    with pytest.raises(TrustMismatch, match=f"^source web: {setting} goes beyond"):
        load_sources(make_settings(tmp_path, excess), TRUST)


def test_source_without_a_key_may_be_set_up_for_everything(tmp_path: Path) -> None:
    everything = {"namespaces": ["*"], "purposes": ["*"], "max_proof": 3, "max_assurance": 2}
    (web,) = load_sources(make_settings(tmp_path, everything | {"signing_key_file": None}), TRUST)
    assert web.signing_key is None


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ((), "not among the trust file's source_keys"),
        ((TrustedKey(WEB_KEY.verifier_key, rights=replace(NARROW, source="shop")),), "speaks for another source"),
    ],
)
def test_source_whose_key_is_not_its_own_in_the_trust_file_is_refused(
    tmp_path: Path, keys: tuple[TrustedKey, ...], text: str
) -> None:
    with pytest.raises(TrustMismatch, match=text):
        load_sources(make_settings(tmp_path), replace(TRUST, source_keys=keys))


def test_import_key_must_be_able_to_speak_of_everything(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, import_signing_key_file=tmp_path / "web.key")
    rights = replace(NARROW, source="import")
    with pytest.raises(TrustMismatch, match=r"^source import: namespaces"):
        load_import_source(settings, replace(TRUST, source_keys=(TrustedKey(WEB_KEY.verifier_key, rights=rights),)))
    wide = SourceRights("import", max_proof=0, max_assurance=1)
    trust = replace(TRUST, source_keys=(TrustedKey(WEB_KEY.verifier_key, rights=wide),))
    assert load_import_source(settings, trust).signing_key == WEB_KEY
    assert load_import_source(make_settings(tmp_path), trust).signing_key is None


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (f"{format_signing_key(WEB_KEY)}\n", 0o640, "open to its group"),
        (f"{format_signing_key(LOG_KEY)}\n", 0o600, "one of kind SOURCE is needed"),
        ("PRIVATE+KEY+nonsense\n", 0o600, "key: "),
        ("", 0o600, "not a private key"),
    ],
)
def test_source_key_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, mode: int, text: str) -> None:
    settings = make_settings(tmp_path)
    (tmp_path / "web.key").write_text(content, encoding="ascii")
    (tmp_path / "web.key").chmod(mode)
    with pytest.raises(KeyFileError, match=text) as caught:
        load_sources(settings, TRUST)
    assert "nonsense" not in str(caught.value)
