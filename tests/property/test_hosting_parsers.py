"""Parsers of the hosting package: what they format they read again, and they raise nothing but their own errors."""

import contextlib
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from hosting.addresses import Address, TcpAddress, UnixAddress, format_address, parse_address
from hosting.errors import AddressError, KeyFileError, SettingsError
from hosting.key_files import format_key, parse_key
from hosting.settings.yaml_file import format_settings, parse_settings

labels = st.text("abz09-", min_size=1, max_size=63).filter(lambda label: label == label.strip("-"))
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=5).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1)
socket_paths = st.lists(printable.filter(lambda part: part != "."), min_size=1, max_size=4).map("/".join)
uses = st.lists(st.text("abz09", min_size=1, max_size=9), min_size=1, max_size=4).map("-".join)
words = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
lists = st.lists(scalars, max_size=3)
documents = st.dictionaries(words, scalars | lists | st.dictionaries(words, scalars | lists, max_size=3), max_size=3)


@given(st.builds(TcpAddress, hosts, st.integers(0, 65535)))
def test_tcp_address_formatted_and_parsed_is_the_same(address: Address) -> None:
    assert parse_address(format_address(address)) == address


@given(socket_paths)
def test_unix_address_formatted_and_parsed_is_the_same(path: str) -> None:
    assume(len(path.encode()) < 107)
    address = UnixAddress(Path("/" + path))

    assert parse_address(format_address(address)) == address


@given(st.text() | st.text().map("unix:".__add__) | st.text().map(lambda text: f"[{text}]:1"))
def test_parse_address_any_text_raises_only_address_error(text: str) -> None:
    with contextlib.suppress(AddressError):
        address = parse_address(text)
        assert parse_address(format_address(address)) == address


@given(st.binary(min_size=1, max_size=64), uses)
def test_key_formatted_and_parsed_is_the_same(key: bytes, use: str) -> None:
    assert parse_key(format_key(key, use), use=use, length_bytes=len(key)) == bytearray(key)


@given(st.binary(), st.booleans())
def test_parse_key_any_bytes_raises_only_key_file_error(content: bytes, has_header: bool) -> None:
    with contextlib.suppress(KeyFileError):
        parse_key(b"consentry-key v1 cache-kek\n" * has_header + content, use="cache-kek")


@given(st.binary(max_size=32), st.integers(0, 200), st.integers(0, 255))
def test_parse_key_with_one_byte_changed_is_refused_or_another_key(key: bytes, place: int, byte: int) -> None:
    good = format_key(key, "cache-kek")
    assume(place < len(good) - 1 and good[place] != byte)
    changed = good[:place] + bytes([byte]) + good[place + 1 :]

    with contextlib.suppress(KeyFileError):
        assert parse_key(changed, use="cache-kek", length_bytes=len(key)) != bytearray(key)


@given(documents)
def test_settings_formatted_and_parsed_are_the_same(document: dict[str, object]) -> None:
    text = format_settings(document)

    assert parse_settings(text.encode(), source="program.yaml").values == document


@given(st.binary() | st.text().map(str.encode) | st.text("{}[]:-!&*'\"|>%@# \n\tab0", max_size=40).map(str.encode))
def test_parse_settings_any_bytes_raises_only_settings_error(content: bytes) -> None:
    with contextlib.suppress(SettingsError):
        parse_settings(content, source="program.yaml")
