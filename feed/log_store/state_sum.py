"""A sum over the whole folded state that costs one hash for each changed record.

It finds rows that were lost, left over or put back from an older time: each is authentic by itself, and only together they are wrong.
The construction is the additive hash of Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing" (1997), over SHA-256
modulo 2^256. It stands against faults, and against somebody who can move sealed rows but not read them; the state root in the log is
what others rely on.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

_MODULUS: Final = 1 << 256


def add_records(state_sum: bytes, records: Iterable[bytes]) -> bytes:
    """The sum (32 bytes) with more records in it."""
    return _shift(state_sum, sum(map(_value, records)))


def subtract_records(state_sum: bytes, records: Iterable[bytes]) -> bytes:
    """The sum (32 bytes) without these records."""
    return _shift(state_sum, -sum(map(_value, records)))


def _value(record: bytes) -> int:
    return int.from_bytes(sha256(record).digest(), "big")


def _shift(state_sum: bytes, by: int) -> bytes:
    return ((int.from_bytes(state_sum, "big") + by) % _MODULUS).to_bytes(32, "big")
