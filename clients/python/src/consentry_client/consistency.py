"""Tokens that let a check demand what an earlier request has put in force."""

import re
from dataclasses import dataclass

from consentry_client.errors import TokenFormatError

_SEQ = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_SEQ_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ConsistencyToken:
    """A place in a log: whoever checks with it gets an answer that knows this entry, or a deny.

    Travels as the text `origin:seq`; `str(token)` and `parse` are a pair.

    Attributes:
        origin: Name of the log.
        seq: Sequence number of the entry, from 1.

    Raises:
        TokenFormatError: The origin is empty or not printable, or the number is out of range.
    """

    origin: str
    seq: int

    def __post_init__(self) -> None:
        if not isinstance(self.origin, str) or not self.origin or not self.origin.isprintable():
            raise TokenFormatError("TOKEN_ORIGIN", "origin of a consistency token must be printable text")
        if not isinstance(self.seq, int) or isinstance(self.seq, bool) or not 1 <= self.seq <= _SEQ_MAX:
            raise TokenFormatError("TOKEN_SEQ", "seq of a consistency token must be a number from 1 to 2^64-1")

    def __str__(self) -> str:
        return f"{self.origin}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "ConsistencyToken":
        """Reads `origin:seq`; the origin may itself hold colons.

        Raises:
            TokenFormatError: The text has another form.
        """
        origin, separator, seq = text.rpartition(":")
        if not separator or not _SEQ.fullmatch(seq):
            raise TokenFormatError("TOKEN_FORM", "a consistency token has the form origin:seq")
        return cls(origin, int(seq))
