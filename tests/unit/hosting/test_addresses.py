from pathlib import Path

import pytest

from hosting.addresses import Address, TcpAddress, UnixAddress, format_address, parse_address
from hosting.errors import AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/consentry/check.sock", UnixAddress(Path("/run/consentry/check.sock"))),
        ("unix:/run/check.sock", UnixAddress(Path("/run/check.sock"))),
        ("127.0.0.1:7443", TcpAddress("127.0.0.1", 7443)),
        ("feed.example:0", TcpAddress("feed.example", 0)),
        ("feed.example.:65535", TcpAddress("feed.example.", 65535)),
        ("[::1]:7443", TcpAddress("::1", 7443)),
        ("[0:0:0:0:0:0:0:1]:7443", TcpAddress("::1", 7443)),
    ],
)
def test_parse_address_valid_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "feed.example",
        "feed.example:",
        "feed.example:port",
        "feed.example:65536",
        "feed.example:000080",
        "feed.example:-1",
        "feed.example:٤٤٣",
        ":7443",
        "::1:7443",
        "[::1]",
        "[]:1",
        "[feed.example]:1",
        "-feed.example:1",
        "feed..example:1",
        "fe ed:1",
        "dns:///feed.example:1",
        "https://feed.example:1",
        "a" * 64 + ":1",
        "unix:",
        "unix:run/check.sock",
        "unix://run/check.sock",
        "unix:////run/check.sock",
        "unix:///run/",
        "unix:///run/\0check.sock",
        "unix:///run/\udc80.sock",
        "unix:///run/line\nbreak.sock",
        "unix-abstract:check",
    ],
)
def test_parse_address_malformed_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(AddressError) as refusal:
        parse_address(text)

    assert refusal.value.reason == "ADDRESS_INVALID"
    assert len(text) < 8 or text not in str(refusal.value)


def test_parse_address_socket_path_longer_than_the_kernel_takes_is_refused() -> None:
    assert parse_address("unix:/" + "s" * 106) == UnixAddress(Path("/" + "s" * 106))
    with pytest.raises(AddressError, match="108 bytes, the kernel takes at most 107"):
        parse_address("unix:/" + "s" * 107)
    with pytest.raises(AddressError, match="109 bytes"):
        parse_address("unix:/" + "é" * 54)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (UnixAddress(Path("/run/check.sock")), "unix:///run/check.sock"),
        (TcpAddress("feed.example", 7443), "feed.example:7443"),
        (TcpAddress("::1", 7443), "[::1]:7443"),
    ],
)
def test_format_address_gives_the_text_that_grpc_takes(address: Address, text: str) -> None:
    assert format_address(address) == text


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("unix:/run/check.sock", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("LOCALHOST.:1", True),
        ("localhost.example:1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("feed.example:1", False),
    ],
)
def test_address_is_loopback_only_for_this_host(text: str, is_loopback: bool) -> None:
    assert parse_address(text).is_loopback is is_loopback
