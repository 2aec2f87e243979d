from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from feed.config import FeedSettings, LogSettings, SourceSettings, SyncListenerSettings
from feed.setup import Installation, set_up

TLS = {"cert_file": "feed.pem", "key_file": "feed-key.pem", "ca_file": "ca.pem"}


def listen(**changes: Any) -> SyncListenerSettings:
    return SyncListenerSettings.model_validate({"address": "127.0.0.1:7000", "tls": TLS} | changes)


def test_sync_listener_with_tls_needs_a_trust_domain() -> None:
    assert listen(trust_domain="consent-1.example").trust_domain == "consent-1.example"
    with pytest.raises(ValidationError, match="trust_domain is required"):
        listen()


def test_sync_listener_on_a_socket_needs_no_trust_domain() -> None:
    assert SyncListenerSettings(address="unix:///run/sync.sock").trust_domain is None


@pytest.mark.parametrize(
    "trust_domain", ["", "Consent.example", "consent.example/x", "spiffe://consent.example", "a\n"]
)
def test_sync_listener_trust_domain_of_another_form_is_refused(trust_domain: str) -> None:
    with pytest.raises(ValidationError, match="trust_domain"):
        listen(trust_domain=trust_domain)


def test_set_up_trusts_the_domain_of_the_certificates_that_it_makes(tmp_path: Path) -> None:
    set_up(Installation(tmp_path / "new", "acme", "log.example.com/acme", "pod-1", 7000))
    text = (tmp_path / "new" / "feed" / "feed.yaml").read_text(encoding="utf-8")
    assert FeedSettings.model_validate(yaml.safe_load(text)).sync.trust_domain == "consentry.example"


def source(**changes: Any) -> SourceSettings:
    base = {
        "name": "partner",
        "address": "feed.example:7001",
        "tls": TLS,
        "certificate_names": ["spiffe://a.example/b"],
    }
    return SourceSettings.model_validate(base | changes)


def test_source_on_tcp_has_tls_and_names() -> None:
    names = ["spiffe://a.example/b", "crm.shop.example", "https://partner.example/signup"]
    assert source(certificate_names=names).certificate_names == tuple(names)


@pytest.mark.parametrize(
    "changes",
    [
        {"tls": None},
        {"certificate_names": []},
        {"tls": None, "certificate_names": []},
        {"address": "127.0.0.1:7001", "tls": None, "certificate_names": []},
        {"address": "unix:///run/partner.sock"},
        {"address": "unix:///run/partner.sock", "tls": None},
        {"address": "unix:///run/partner.sock", "certificate_names": []},
    ],
)
def test_source_on_tcp_without_tls_or_names_and_socket_with_either_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="tls and certificate_names are required on TCP"):
        source(**changes)


@pytest.mark.parametrize(
    "name", ["", "*.shop.example", "a b", "spiffe:", "a..example", "user@shop.example", "x\n", "é"]
)
def test_source_certificate_name_of_no_certificate_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="certificate_names"):
        source(certificate_names=[name])


def test_log_mark_is_beside_the_keys_unless_it_is_named() -> None:
    settings = LogSettings.model_validate({"directory": "/data/log", "keys_directory": "/etc/consentry/keys"})
    assert settings.high_water_path == Path("/etc/consentry/high-water/log-mark")
    named = settings.model_copy(update={"high_water_file": Path("/marks/log")})
    assert named.high_water_path == Path("/marks/log")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high_water_file": "/data/log/mark"}, "high_water_file is in `directory`"),
        ({"keys_directory": "/data/log/keys"}, "high_water_file is in `directory`"),
        ({"archive_directory": "/data/log/archive"}, "lie within each other"),
        ({"archive_directory": "/data"}, "lie within each other"),
        ({"archive_directory": "/data/log"}, "lie within each other"),
    ],
)
def test_log_safeguards_that_are_lost_with_the_database_are_refused(changes: dict[str, str], message: str) -> None:
    base = {"directory": "/data/log", "keys_directory": "/etc/consentry/keys"}
    with pytest.raises(ValidationError, match=message):
        LogSettings.model_validate(base | changes)
