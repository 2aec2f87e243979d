"""Typed access to one mapping of a policy document: refuses unknown keys and wrong types, and knows its place."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from consent.policy.errors import DocumentPath, InvalidValue, UnknownKey
from consent.policy.wording import quote, suggest

Word = TypeVar("Word")
Choice = TypeVar("Choice", bound=StrEnum)


class Fields:
    """The fields of one mapping.

    Args:
        raw: What should be a mapping with text keys.
        path: Its place in the document.
        known: Keys that it may have; None where keys are names.

    Raises:
        InvalidValue: No mapping.
        UnknownKey: A key that is not known.
    """

    __slots__ = ("_path", "_raw")

    def __init__(self, raw: object, path: DocumentPath, known: Sequence[str] | None = None) -> None:
        if not isinstance(raw, Mapping):
            raise InvalidValue(f"is {quote(raw)}, must be a mapping (an empty one is written {{}})", path=path)
        self._raw: Mapping[str, object] = raw
        self._path = path
        for key in raw:
            if not isinstance(key, str):
                raise InvalidValue(f"the key {quote(key)} is not text", path=path)
            if known is not None and key not in known:
                hint = suggest(key, known) or f"; valid: {', '.join(known)}"
                raise UnknownKey(f"unknown key{hint}", path=(*path, key))

    def place(self, key: str) -> DocumentPath:
        """Where the value of a key stands."""
        return (*self._path, key)

    def require(self, key: str) -> None:
        """Refuses a mapping without the key."""
        if key not in self._raw:
            raise InvalidValue(f"the key {quote(key)} is missing", path=self._path)

    def key_names(self) -> tuple[str, ...]:
        """Every key."""
        return tuple(self._raw)

    def entries(self) -> Iterator[tuple[str, object, DocumentPath]]:
        """Every (key, value, place)."""
        for key, value in self._raw.items():
            yield key, value, (*self._path, key)

    def text(self, key: str, default: str = "") -> str:
        """Text."""
        return read_text(self._raw.get(key, default), self.place(key))

    def flag(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        value = self._raw.get(key, default)
        if not isinstance(value, bool):
            raise InvalidValue(f"is {quote(value)}, must be true or false", path=self.place(key))
        return value

    def whole_number(self, key: str, default: int) -> int:
        """A whole number."""
        value = self._raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidValue(f"is {quote(value)}, must be a whole number", path=self.place(key))
        return value

    def choice(self, key: str, default: Choice) -> Choice:
        """One of the words of an enumeration."""
        words: dict[str, Choice] = {member.value: member for member in type(default)}
        return read_word(self.text(key, default.value), words, self.place(key))

    def items(self, key: str) -> list[object]:
        """A list; none means an empty one."""
        value = self._raw.get(key, ())
        if not isinstance(value, list | tuple):
            raise InvalidValue(f"is {quote(value)}, must be a list", path=self.place(key))
        return list(value)

    def names(self, key: str) -> tuple[str, ...]:
        """A list of texts, none twice."""
        seen: dict[str, None] = {}
        for index, item in enumerate(self.items(key)):
            path = (*self.place(key), index)
            name = read_text(item, path)
            if name in seen:
                raise InvalidValue(f"names {quote(name)} twice", path=path)
            seen[name] = None
        return tuple(seen)

    def name_or_names(self, key: str) -> tuple[str, ...]:
        """Text, or a list of texts, none twice."""
        value = self._raw.get(key)
        return self.names(key) if isinstance(value, list | tuple) else (read_text(value, self.place(key)),)

    def mapping(self, key: str, known: Sequence[str] | None = None) -> "Fields":
        """A mapping; none means an empty one."""
        return Fields(self._raw.get(key, {}), self.place(key), known)


def read_text(value: object, path: DocumentPath) -> str:
    """The value, if it is text."""
    if not isinstance(value, str):
        hint = " (put it in quotes)" if isinstance(value, int | float) else ""
        raise InvalidValue(f"is {quote(value)}, must be text{hint}", path=path)
    return value


def read_word(word: str, words: Mapping[str, Word], path: DocumentPath) -> Word:
    """What a word of a fixed list stands for."""
    if word not in words:
        raise InvalidValue(f"is {quote(word)}, must be one of {', '.join(words)}{suggest(word, words)}", path=path)
    return words[word]
