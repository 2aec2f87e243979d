"""Fields of the canonical encoding, shared by events and state records.

Integers are big-endian; times are signed Unix ms; strings are a 16-bit length and NFC UTF-8; an optional value is one zero byte, or one
byte 1 and the value. Every writer has one reader that accepts exactly what the writer makes. docs/protocol.md has the table.
"""

import dataclasses
import operator
import struct
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby, repeat
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, NamedTuple

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_TAILS_KEPT = 1024
_MAX_KEPT_TAIL_BYTES = 512
"""Longer ones (policies) are few, and would fill the memory."""


class Truncated(ValueError):
    """The bytes end before the field does, or the field is not canonical; the message names which."""


class Field(NamedTuple):
    """How one field is written and read.

    Attributes:
        name: Its words in docs/protocol.md.
        write: value -> bytes.
        read: (bytes, offset) -> (value, next offset); raises `Truncated`, `IndexError` or `struct.error`.
        struct_code: What `struct` calls a field of fixed size, empty for all others; records handle runs of these in one step.
    """

    name: str
    write: Callable[[Any], bytes]
    read: Callable[[bytes, int], tuple[Any, int]]
    struct_code: str = ""


def _number(name: str, code: str) -> Field:
    layout = struct.Struct(f">{code}")
    size = layout.size

    def read(data: bytes, at: int) -> tuple[int, int]:
        return layout.unpack_from(data, at)[0], at + size

    return Field(name, layout.pack, read, code)


def _read_flag(data: bytes, at: int) -> tuple[bool, int]:
    value = data[at]
    if value > 1:
        raise Truncated("a flag is neither 0 nor 1")
    return value == 1, at + 1


def _write_string(value: str) -> bytes:
    encoded = (value if value.isascii() else unicodedata.normalize("NFC", value)).encode("utf-8")
    return _U16.pack(len(encoded)) + encoded


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    start = at + 2
    end = start + _U16.unpack_from(data, at)[0]
    if end > len(data):
        raise Truncated("a string is cut short")
    return _decode(data[start:end]), end


# Origins, sources and purposes come again with every event. Errors are not kept.
@lru_cache(maxsize=4096)
def _decode(encoded: bytes) -> str:
    try:
        text = encoded.decode("utf-8")
    except UnicodeDecodeError:
        raise Truncated("a string is not UTF-8") from None
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        raise Truncated("a string is not in NFC")
    return text


def raw(size_bytes: int) -> Field:
    """Exactly `size_bytes` bytes."""

    def write(value: bytes) -> bytes:
        if len(value) != size_bytes:
            raise ValueError(f"expected {size_bytes} bytes, got {len(value)}")
        return bytes(value)

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        end = at + size_bytes
        if end > len(data):
            raise Truncated("a fixed field is cut short")
        return data[at:end], end

    return Field(f"raw{size_bytes}", write, read, f"{size_bytes}s")


def _write_blob(value: bytes) -> bytes:
    return _U32.pack(len(value)) + value


def _read_blob(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 4 + _U32.unpack_from(data, at)[0]
    if end > len(data):
        raise Truncated("a byte string is cut short")
    return data[at + 4 : end], end


def optional(field: Field) -> Field:
    """A value that may be None."""

    def write(value: Any) -> bytes:
        return b"\x00" if value is None else b"\x01" + field.write(value)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        present, at = _read_flag(data, at)
        return field.read(data, at) if present else (None, at)

    return Field(f"optional {field.name}", write, read)


def sequence(field: Field) -> Field:
    """A tuple of values behind a 16-bit count."""
    return _sequence(field, _U16, "list")


def long_sequence(field: Field) -> Field:
    """A tuple of values behind a 32-bit count, where nothing bounds how many there are."""
    return _sequence(field, _U32, "long list")


def _sequence(field: Field, count_layout: struct.Struct, name: str) -> Field:
    def write(values: tuple[Any, ...]) -> bytes:
        return count_layout.pack(len(values)) + b"".join(map(field.write, values))

    def read(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        count = count_layout.unpack_from(data, at)[0]
        at += count_layout.size
        values = []
        for _ in range(count):
            value, at = field.read(data, at)
            values.append(value)
        return tuple(values), at

    return Field(f"{name} of {field.name}", write, read)


def pair(first: Field, second: Field) -> Field:
    """A tuple of two values."""

    def write(value: tuple[Any, Any]) -> bytes:
        return first.write(value[0]) + second.write(value[1])

    def read(data: bytes, at: int) -> tuple[tuple[Any, Any], int]:
        left, at = first.read(data, at)
        right, at = second.read(data, at)
        return (left, right), at

    return Field(f"pair of {first.name} and {second.name}", write, read)


def record(make: Callable[..., Any], fields: tuple[tuple[str, Field], ...]) -> Field:
    """An object whose attributes are written in the order given and read back into `make(**attributes)`."""
    steps = _steps(fields)
    writers = [(attrgetter(*names), field.write) for names, field in steps]
    readers = [(field.read, len(names) > 1) for names, field in steps]
    build = _builder(make, tuple(name for name, _ in fields))

    def write(value: Any) -> bytes:
        return b"".join([write_step(get(value)) for get, write_step in writers])

    def read(data: bytes, at: int) -> tuple[Any, int]:
        values: list[Any] = []
        for read_step, is_run in readers:
            value, at = read_step(data, at)
            if is_run:
                values += value
            else:
                values.append(value)
        return build(values), at

    return Field(getattr(make, "__name__", "record"), write, read)


def whole_record_reader(make: Callable[..., Any], fields: tuple[tuple[str, Field], ...]) -> Callable[[bytes, int], Any]:
    """A reader of a `record` that must use up all bytes from an offset on; it raises `Truncated`, and no other error.

    Behind the fields of fixed size that a record begins with, most events hold the same few names. So what follows these fields is
    decoded once for each run of bytes that it can be.
    """
    (head_names, head), *_ = _steps(fields)
    head_count = len(head_names)
    read_head, read_tail = head.read, _tail_reader(tuple(field.read for _, field in fields[head_count:]))
    read_known_tail = lru_cache(maxsize=_TAILS_KEPT)(read_tail)
    build = _builder(make, tuple(name for name, _ in fields))

    def read(data: bytes, at: int) -> Any:
        try:
            values, at = read_head(data, at)
            tail = data[at:]
            tail_values = read_known_tail(tail) if len(tail) <= _MAX_KEPT_TAIL_BYTES else read_tail(tail)
        except (IndexError, struct.error):
            raise Truncated("the bytes end too early") from None
        return build((*values, *tail_values) if head_count > 1 else (values, *tail_values))

    return read


def _tail_reader(readers: tuple[Callable[[bytes, int], tuple[Any, int]], ...]) -> Callable[[bytes], tuple[Any, ...]]:
    def read(tail: bytes) -> tuple[Any, ...]:
        values, at = [], 0
        for read_field in readers:
            value, at = read_field(tail, at)
            values.append(value)
        if at != len(tail):
            raise Truncated("bytes are left over")
        return tuple(values)

    return read


def _builder(make: Callable[..., Any], names: tuple[str, ...]) -> Callable[[Iterable[Any]], Any]:
    """How an object is made of its values, in the order of `names`."""
    if not isinstance(make, type) or not _is_plain(make, names):
        return lambda values: make(**dict(zip(names, values, strict=True)))
    # What a frozen dataclass does in its `__init__`, without looking each slot up by name: that takes half as long.
    setters = [getattr(make, name).__set__ for name in names]

    def build(values: Iterable[Any]) -> Any:
        made: Any = object.__new__(make)
        # Setters return None, so `any` runs through all of them.
        any(map(operator.call, setters, repeat(made), values))
        return made

    return build


def _is_plain(make: type, names: tuple[str, ...]) -> bool:
    """Whether it is a dataclass with slots for exactly these fields, and nothing happens when one is made."""
    is_own = dataclasses.is_dataclass(make) and not hasattr(make, "__post_init__")
    return (
        is_own
        and {field.name for field in dataclasses.fields(make)} == set(names)
        and all(isinstance(getattr(make, name, None), MemberDescriptorType) for name in names)
    )


_Step = tuple[tuple[str, ...], Field]


def _steps(fields: tuple[tuple[str, Field], ...]) -> list[_Step]:
    return [_fixed_run(run) if is_fixed else run[0] for is_fixed, run in _split_runs(fields)]


def _split_runs(fields: tuple[tuple[str, Field], ...]) -> Iterator[tuple[bool, list[_Step]]]:
    """Neighbours of fixed size together, every other field alone."""
    for is_fixed, group in groupby(fields, key=lambda item: bool(item[1].struct_code)):
        run: list[_Step] = [((name,), field) for name, field in group]
        if is_fixed and len(run) > 1:
            yield True, run
        else:
            yield from ((False, [step]) for step in run)


def _fixed_run(run: list[_Step]) -> _Step:
    """Several fields of fixed size as one: `struct` handles them at once, several times as fast as one by one."""
    codes = [field.struct_code for _, field in run]
    layout = struct.Struct(">" + "".join(codes))
    # Truth has its own code, which takes every byte for true; ours is stricter.
    packing = struct.Struct(">" + "".join("?" if field is FLAG else field.struct_code for _, field in run))
    flags = [place for place, (_, field) in enumerate(run) if field is FLAG]
    sizes = [(place, int(code[:-1])) for place, code in enumerate(codes) if code.endswith("s")]

    def write(values: tuple[Any, ...]) -> bytes:
        for place, size_bytes in sizes:
            # `struct` would fill up or cut off.
            if len(values[place]) != size_bytes:
                raise ValueError(f"expected {size_bytes} bytes, got {len(values[place])}")
        return packing.pack(*values)

    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        values = list(layout.unpack_from(data, at))
        for place in flags:
            if values[place] > 1:
                raise Truncated("a flag is neither 0 nor 1")
            values[place] = values[place] == 1
        return values, at + layout.size

    return tuple(name for (name,), _ in run), Field("run", write, read)


U8 = _number("u8", "B")
U64 = _number("u64", "Q")
TIME = _number("i64 ms", "q")
FLAG = Field("flag", lambda value: b"\x01" if value else b"\x00", _read_flag, "B")
STRING = Field("string", _write_string, _read_string)
BLOB = Field("blob", _write_blob, _read_blob)
TOKEN = raw(16)
HASH = raw(32)


def read_whole(field: Field, data: bytes) -> Any:
    """Read one field that must use up all of `data`.

    Raises:
        Truncated: The bytes are too short, too long or not canonical.
    """
    try:
        value, end = field.read(data, 0)
    except (IndexError, struct.error):
        raise Truncated("the bytes end too early") from None
    if end != len(data):
        raise Truncated("bytes are left over")
    return value
