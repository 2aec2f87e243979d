"""What a client is made with."""

import math
from pathlib import Path
from typing import Any

import pytest
from consentry_client import AsyncClient, AsyncIntakeClient, Client, ConfigurationError, IntakeClient, TlsFiles
from consentry_client.endpoint import resolve_endpoint
from consentry_client.settings import resolve_settings

ADDRESS = "unix:///run/consentry/check.sock"


@pytest.mark.parametrize(
    ("address", "target"),
    [(ADDRESS, "unix:/run/consentry/check.sock"), ("unix:/run/c.sock", "unix:/run/c.sock")],
)
def test_resolve_endpoint_of_unix_socket_gives_its_path(address: str, target: str) -> None:
    endpoint = resolve_endpoint(address, "V", {})
    assert endpoint.target == target
    assert endpoint.socket_path == Path(target.removeprefix("unix:"))
    assert endpoint.make_credentials() is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "ADDRESS_MISSING"),
        ("unix:", "ADDRESS_INVALID"),
        ("unix://relative", "ADDRESS_INVALID"),
        ("unix:relative", "ADDRESS_INVALID"),
        ("unix:///" + "a" * 107, "ADDRESS_INVALID"),
        ("localhost", "ADDRESS_INVALID"),
        ("localhost:0", "ADDRESS_INVALID"),
        ("localhost:65536", "ADDRESS_INVALID"),
        ("http://localhost:1", "ADDRESS_INVALID"),
        ("dns:///localhost:1", "ADDRESS_INVALID"),
        ("::1:443", "ADDRESS_INVALID"),
        ("localhost:443", "TLS_REQUIRED"),
        ("[::1]:443", "TLS_REQUIRED"),
    ],
)
def test_resolve_endpoint_that_cannot_work_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_endpoint(address, "V", {})
    assert caught.value.reason == reason


def test_resolve_endpoint_without_address_takes_the_variable() -> None:
    assert resolve_endpoint(None, "V", {"V": ADDRESS}).target == "unix:/run/consentry/check.sock"


def test_resolve_endpoint_without_either_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="set V="):
        resolve_endpoint(None, "V", {})


def test_resolve_endpoint_with_missing_tls_file_names_it(tmp_path: Path) -> None:
    for name in ("ca", "key"):
        (tmp_path / name).write_text("PEM")
    tls = TlsFiles(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    with pytest.raises(ConfigurationError, match="cert file") as caught:
        resolve_endpoint("localhost:443", "V", {}, tls)
    assert caught.value.reason == "TLS_FILE_UNREADABLE"


def test_resolve_endpoint_of_unix_socket_with_tls_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_endpoint(ADDRESS, "V", {}, TlsFiles("a", "b", "c"))
    assert caught.value.reason == "TLS_NOT_SUPPORTED"


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"timeout_seconds": math.inf},
        {"timeout_seconds": math.nan},
        {"batch_timeout_seconds": 0},
        {"batch_items": 0},
        {"batch_items": 10_001},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_client_with_number_out_of_range_is_refused(kind: type[Any], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(ADDRESS, **options)
    assert caught.value.reason == "OPTION_OUT_OF_RANGE"


@pytest.mark.parametrize("kind", [Client, AsyncClient, IntakeClient, AsyncIntakeClient])
def test_client_with_unknown_keyword_raises_type_error(kind: type[Any]) -> None:
    with pytest.raises(TypeError, match="no keyword 'timeout'"):
        kind(ADDRESS, timeout=1)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_client_told_to_fail_open_silently_is_refused(kind: type[Any]) -> None:
    with pytest.raises(ConfigurationError, match="i_accept_processing_without_a_decision"):
        kind(ADDRESS, fail_closed=False)


@pytest.mark.parametrize(
    ("kind", "variable"), [(Client, "CONSENTRY_ADDRESS"), (IntakeClient, "CONSENTRY_INTAKE_ADDRESS")]
)
def test_client_without_address_takes_its_variable(
    kind: type[Any], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "unix:///run/here.sock")
    assert repr(kind()) == f"{kind.__name__}(unix:/run/here.sock)"


def test_resolve_settings_without_options_has_the_documented_defaults() -> None:
    settings = resolve_settings(ADDRESS, {})
    assert (settings.timeout_seconds, settings.batch_timeout_seconds, settings.batch_items) == (0.25, 10.0, 10_000)
    assert settings.failure_policy.accepted_because is None
