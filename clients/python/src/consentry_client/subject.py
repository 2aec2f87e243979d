"""Who is asked about. The value of an identifier is personal data: nothing here shows it unless it is read by name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NAMESPACE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TOKEN_BYTES = 16
# Any other namespace is kept out of texts, because a caller who swaps the two arguments would show the value.
_NAMESPACES_SHOWN = frozenset({"email", "phone", "user", "device"})


@dataclass(frozen=True, slots=True, repr=False)
class Identifier:
    """One way to name a person.

    Attributes:
        namespace: `email`, `phone`, `user`, `device`, or one of the tenant's own: a letter a-z, then up
            to 31 of a-z, 0-9, `_` and `-`.
        value: As the caller knows it; the sidecar normalises it.
        token: A ready subject token of 16 bytes instead of both, where the listener permits it; see `of_token`.
        key_epoch: Key epoch of the token.

    Raises:
        TypeError: Something else than text was given.
        ValueError: The namespace has a form that no namespace has.
    """

    namespace: str
    value: str
    token: bytes = b""
    key_epoch: int = 0

    def __post_init__(self) -> None:
        for field, content, kind in (("namespace", self.namespace, str), ("value", self.value, str)):
            if not isinstance(content, kind):
                raise TypeError(f"{field} of an identifier must be text, not {type(content).__name__}")
        if not isinstance(self.token, bytes) or len(self.token) not in (0, _TOKEN_BYTES):
            raise ValueError(f"token of an identifier must be {_TOKEN_BYTES} bytes")
        if not self.token and not _NAMESPACE.fullmatch(self.namespace):
            raise ValueError("namespace of an identifier must be a letter a-z and up to 31 of a-z, 0-9, '_', '-'")

    @classmethod
    def of_token(cls, token: bytes, key_epoch: int = 0) -> "Identifier":
        """Names a person by a ready subject token of 16 bytes; one of an older key epoch than the log's is good for ever."""
        if len(token) != _TOKEN_BYTES:
            raise ValueError(f"token of an identifier must be {_TOKEN_BYTES} bytes")
        if not 0 <= key_epoch < 1 << 64:
            raise ValueError("key_epoch of a token must be a number of 64 bits")
        return cls("", "", bytes(token), key_epoch)

    def __repr__(self) -> str:
        if self.token:
            return "Identifier(token=<hidden>)"
        shown = self.namespace if self.namespace in _NAMESPACES_SHOWN else "<other>"
        return f"Identifier({shown}, <hidden>)"


SubjectLike = Identifier | Iterable[Identifier]
"""One identifier, or several of one person: they are looked up together, and a denial at any of them counts."""


def email(address: str) -> Identifier:
    """Names a person by an e-mail address."""
    return Identifier("email", address)


def phone(number: str) -> Identifier:
    """Names a person by a telephone number, E.164: `+` and digits."""
    return Identifier("phone", number)


def user(user_id: str) -> Identifier:
    """Names a person by an account."""
    return Identifier("user", user_id)


def device(device_id: str) -> Identifier:
    """Names a person by a device or a browser."""
    return Identifier("device", device_id)


def as_identifiers(subject: SubjectLike) -> tuple[Identifier, ...]:
    """Returns a subject's identifiers.

    Raises:
        TypeError: It is neither an identifier nor an iterable of identifiers.
    """
    if isinstance(subject, Identifier):
        return (subject,)
    if isinstance(subject, str | bytes) or not isinstance(subject, Iterable):
        raise TypeError(
            f"a subject must be an Identifier or several, not {type(subject).__name__}; use email(...), phone(...), "
            "user(...), device(...) or Identifier(namespace, value)"
        )
    identifiers = tuple(subject)
    for identifier in identifiers:
        if not isinstance(identifier, Identifier):
            raise TypeError(f"a subject must hold identifiers only, not {type(identifier).__name__}")
    return identifiers


def as_texts(field: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Returns one text or several as a tuple.

    Raises:
        TypeError: There is anything but text; the message names the field and the type.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{field} must be text or several texts, not {type(value).__name__}")
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{field} must hold texts only, not {type(text).__name__}")
    return texts
