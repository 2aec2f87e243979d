from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hosting.settings import document_settings
from hosting.settings.server import AddressText, Name, ProgramLogSettings, SocketText, TlsFiles

ADDRESS: TypeAdapter[Any] = TypeAdapter(AddressText)
SOCKET: TypeAdapter[Any] = TypeAdapter(SocketText)
NAME: TypeAdapter[Any] = TypeAdapter(Name)


def test_address_text_is_what_the_parser_reads() -> None:
    assert ADDRESS.validate_python("127.0.0.1:7443") == "127.0.0.1:7443"
    with pytest.raises(ValidationError, match="expected unix:///path, host:port"):
        ADDRESS.validate_python("feed.example")


def test_socket_text_is_a_unix_socket() -> None:
    assert SOCKET.validate_python("unix:///run/check.sock") == "unix:///run/check.sock"
    for text in ("127.0.0.1:7443", "unix:run/check.sock"):
        with pytest.raises(ValidationError, match="Unix socket"):
            SOCKET.validate_python(text)


@pytest.mark.parametrize("name", ["a", "shop-1", "Shop.eu_west", "a" * 63])
def test_name_that_can_name_a_file_is_taken(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "..", "a/b", "a b", "a\n", "ä", "a" * 64])
def test_name_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        NAME.validate_python(name)


def test_shared_groups_of_settings_are_fully_described() -> None:
    assert "`cert_file`" in document_settings(TlsFiles, "X_", "TLS")
    assert "`debug` or `info`" in document_settings(ProgramLogSettings, "X_", "Log")
