"""The trust file: which keys may speak for a tenant's log. It comes with the configuration, never from the stream.

Its text is one line of canonical JSON; sealed, it is a signed note over that line by the tenant's root key.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from consent.eventlog.errors import EventLogError, MalformedKey, MalformedTrustFile, WrongKeyKind
from consent.eventlog.keys import (
    MAX_TIME_UNIX_SECONDS,
    KeyKind,
    SigningKey,
    VerifierKey,
    format_verifier_key,
    parse_verifier_key,
    sign_note,
    verify_note,
)
from consent.eventlog.merkle import MAX_TREE_SIZE
from consent.eventlog.note_text import is_line
from consent.eventlog.signed_note import parse_note

_FORMAT: Final = "consentry/trust/v1"
#: Which kind of key each list holds.
_KEY_LISTS: Final = {
    "log_keys": KeyKind.LOG,
    "cosigner_keys": KeyKind.COSIGNER,
    "witness_keys": KeyKind.COSIGNER,
    "source_keys": KeyKind.SOURCE,
    "approver_keys": KeyKind.APPROVER,
}
_NUMBERS: Final = ("cosigner_threshold", "minimum_size", "witness_threshold", "approver_threshold")
_WORDS: Final = ("tenant", "origin")
_FIELDS: Final = frozenset({"format", *_WORDS, *_NUMBERS, *_KEY_LISTS})
_KEY_TIMES: Final = ("not_before_unix_seconds", "not_after_unix_seconds")
_KEY_NUMBERS: Final = (*_KEY_TIMES, "last_seq")
#: Lists whose keys sign single entries, and so are taken back from an entry on and not from a time on.
_SPEAKERS: Final = frozenset({"source_keys", "approver_keys"})
_RIGHTS: Final = ("source", "namespaces", "purposes", "max_proof", "max_assurance")

EVERYTHING: Final = "*"
"""Among namespaces or purposes: every one."""
LEAST_APPROVERS: Final = 2
"""No single person may change the rules for everybody."""


@dataclass(frozen=True, slots=True)
class SourceRights:
    """What a source's key may vouch for.

    Attributes:
        source: Name that its events carry.
        namespaces: Of identifiers. The feed holds it to them; entries show pseudonyms, so that nobody behind it can.
        purposes: By name; what reaches below a purpose, or is about none, needs `*`.
        max_proof: Highest proof that it may assert.
        max_assurance: Highest assurance.

    Raises:
        MalformedTrustFile: A name is missing or no line, or a level is negative.
    """

    source: str
    namespaces: tuple[str, ...] = (EVERYTHING,)
    purposes: tuple[str, ...] = (EVERYTHING,)
    max_proof: int = 1
    max_assurance: int = 1

    def __post_init__(self) -> None:
        if not all(is_line(name) for name in (*self.namespaces, *self.purposes)):
            raise MalformedTrustFile("rights: names must be one line and not empty")
        if not 0 <= self.max_proof <= 255 or not 0 <= self.max_assurance <= 255:
            raise MalformedTrustFile("rights: max_proof and max_assurance must be 0 to 255")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key and when it is in force; both ends belong to that time, and None leaves an end open.

    A key of the log, a cosigner or a witness is taken back by leaving it out. One of a source or an approver stays, with a `last_seq`:
    the entries that it signed before must still be believed, and who stole it could sign with any time.

    Attributes:
        verifier_key: The key.
        not_before_unix_seconds: First second.
        not_after_unix_seconds: Last second.
        last_seq: Last entry that it may have signed; only of sources and approvers.
        rights: Only, and always, of sources.

    Raises:
        MalformedTrustFile: The times are out of range or in the wrong order.
    """

    verifier_key: VerifierKey
    not_before_unix_seconds: int | None = None
    not_after_unix_seconds: int | None = None
    last_seq: int | None = None
    rights: SourceRights | None = None

    def __post_init__(self) -> None:
        start = self.not_before_unix_seconds or 0
        end = MAX_TIME_UNIX_SECONDS if self.not_after_unix_seconds is None else self.not_after_unix_seconds
        if not 0 <= start <= end <= MAX_TIME_UNIX_SECONDS:
            raise MalformedTrustFile(f"{', '.join(_KEY_TIMES)}: out of range or in the wrong order")
        if self.last_seq is not None and not 0 <= self.last_seq <= MAX_TREE_SIZE:
            raise MalformedTrustFile("last_seq: out of range")

    def is_in_force(self, time_unix_seconds: int) -> bool:
        """Say whether the key may be believed at that time."""
        start, end = self.not_before_unix_seconds, self.not_after_unix_seconds
        return (start is None or start <= time_unix_seconds) and (end is None or time_unix_seconds <= end)

    def covers(self, seq: int) -> bool:
        """Say whether the key may have signed that entry."""
        return self.last_seq is None or seq <= self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom to believe about one tenant's log.

    Attributes:
        tenant: The tenant's name.
        origin: Name of its log.
        log_keys: Keys whose signature makes a checkpoint the log's; more than one while they rotate.
        cosigner_keys: Keys whose timestamps count for freshness. Keys of one name are one cosigner.
        cosigner_threshold: How many cosigners must have signed.
        minimum_size: A log smaller than this is not the one that was trusted.
        source_keys: Intake systems that may relax.
        approver_keys: People who may approve policies and overrides. Keys of one name are one person.
        witness_keys: Independent parties that have watched the log grow. Keys of one name are one witness.
        witness_threshold: How many witnesses must have cosigned a checkpoint for its time to count; 0 for none.
        approver_threshold: How many approvers must have signed, at least 2.

    Raises:
        MalformedTrustFile: A field has the wrong form, a list holds a key of another kind, one key serves twice, or
            a threshold cannot be met.
    """

    tenant: str
    origin: str
    log_keys: tuple[TrustedKey, ...]
    cosigner_keys: tuple[TrustedKey, ...]
    cosigner_threshold: int = 1
    minimum_size: int = 0
    source_keys: tuple[TrustedKey, ...] = ()
    approver_keys: tuple[TrustedKey, ...] = ()
    witness_keys: tuple[TrustedKey, ...] = ()
    witness_threshold: int = 0
    approver_threshold: int = LEAST_APPROVERS

    def __post_init__(self) -> None:
        for word in _WORDS:
            if not is_line(getattr(self, word)):
                raise MalformedTrustFile(f"{word}: must be one line and not empty")
        if not self.log_keys:
            raise MalformedTrustFile("log_keys: must not be empty")
        if not 1 <= self.cosigner_threshold <= len({key.verifier_key.name for key in self.cosigner_keys}):
            raise MalformedTrustFile(
                "cosigner_threshold: must be 1 to the number of cosigners, rotating keys not counted"
            )
        if not 0 <= self.witness_threshold <= len({key.verifier_key.name for key in self.witness_keys}):
            raise MalformedTrustFile(
                "witness_threshold: must be 0 to the number of witnesses, rotating keys not counted"
            )
        if self.approver_threshold < LEAST_APPROVERS:
            raise MalformedTrustFile(f"approver_threshold: must be at least {LEAST_APPROVERS}")
        if not 0 <= self.minimum_size <= MAX_TREE_SIZE:
            raise MalformedTrustFile("minimum_size: out of range")
        for key_list, kind in _KEY_LISTS.items():
            if any(key.verifier_key.kind is not kind for key in getattr(self, key_list)):
                raise MalformedTrustFile(f"{key_list}: a key of another kind")
            _check_speakers(key_list, getattr(self, key_list))
        _check_distinct(key.verifier_key for key_list in _KEY_LISTS for key in getattr(self, key_list))


def parse_trust(text: str) -> Trust:
    """Read the text of a trust file, strictly: `format_trust` gives back the same text.

    Raises:
        MalformedTrustFile: Not JSON, a field missing, unknown or wrong, or not in canonical form.
    """
    content = _load_json(text)
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise MalformedTrustFile(f"trust file: must be an object with exactly the fields {', '.join(sorted(_FIELDS))}")
    if content["format"] != _FORMAT:
        raise MalformedTrustFile("format: unknown")
    for word in _WORDS:
        if not isinstance(content[word], str):
            raise MalformedTrustFile(f"{word}: must be a string")
    numbers = {name: _parse_number(content[name], name) for name in _NUMBERS}
    key_lists = {name: _parse_keys(content[name], name) for name in _KEY_LISTS}
    trust = Trust(tenant=content["tenant"], origin=content["origin"], **numbers, **key_lists)  # type: ignore[arg-type]
    if format_trust(trust) != text:
        raise MalformedTrustFile("trust file: not in canonical form")
    return trust


def format_trust(trust: Trust) -> str:
    """Write the text of a trust file: one line of JSON, sorted, without spaces, and a newline."""
    content: dict[str, Any] = {"format": _FORMAT}
    content |= {name: getattr(trust, name) for name in (*_WORDS, *_NUMBERS)}
    content |= {name: [_format_key(key) for key in getattr(trust, name)] for name in _KEY_LISTS}
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def seal_trust(trust: Trust, root_key: SigningKey) -> bytes:
    """Sign a trust file.

    Returns:
        A signed note whose text is `format_trust`'s.

    Raises:
        WrongKeyKind: The root key is not of kind LOG.
        MalformedNote: The trust file is too long for a note.
    """
    _check_root_kind(root_key.kind)
    return sign_note(format_trust(trust), root_key)


def open_trust(note_bytes: bytes, root_verifier_key: VerifierKey) -> Trust:
    """Read a sealed trust file.

    Raises:
        WrongKeyKind: The root key is not of kind LOG.
        MalformedNote: Not a signed note.
        InsufficientSignatures: The root key did not sign it.
        InvalidSignature: The root key's signature does not verify.
        MalformedTrustFile: What it signed is no trust file.
    """
    _check_root_kind(root_verifier_key.kind)
    note = parse_note(note_bytes)
    verify_note(note, root_verifier_key)
    return parse_trust(note.text)


def _check_root_kind(kind: KeyKind) -> None:
    if kind is not KeyKind.LOG:
        raise WrongKeyKind("root key: must be of kind LOG")


def _check_speakers(key_list: str, keys: tuple[TrustedKey, ...]) -> None:
    if key_list not in _SPEAKERS and any(key.last_seq is not None for key in keys):
        raise MalformedTrustFile(f"{key_list}: last_seq is for sources and approvers; leave out a key to take it back")
    if any((key.rights is not None) != (key_list == "source_keys") for key in keys):
        raise MalformedTrustFile(f"{key_list}: a source's key has rights, and no other")


def _check_distinct(keys: Iterable[VerifierKey]) -> None:
    """Refuse one key in two places: who holds a log's key must not also be its cosigner, source or witness."""
    public_keys, line_names = set(), set()
    for key in keys:
        if key.public_key in public_keys or (key.name, key.key_id) in line_names:
            raise MalformedTrustFile("keys: one key stands in two places")
        public_keys.add(key.public_key)
        line_names.add((key.name, key.key_id))


def _load_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except EventLogError:
        raise
    except (ValueError, RecursionError):
        # The decoder's own message may quote the text.
        raise MalformedTrustFile("trust file: not JSON") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise MalformedTrustFile("trust file: one field stands twice")
    return content


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedTrustFile("trust file: a number that JSON does not have")


def _parse_number(value: Any, field_name: str) -> int:
    # Not isinstance: True is an int to Python and not to JSON.
    if type(value) is not int:
        raise MalformedTrustFile(f"{field_name}: must be a whole number")
    return value


def _parse_keys(value: Any, list_name: str) -> tuple[TrustedKey, ...]:
    if not isinstance(value, list):
        raise MalformedTrustFile(f"{list_name}: must be a list")
    return tuple(_parse_key(entry, f"{list_name}[{number}]") for number, entry in enumerate(value))


def _parse_key(value: Any, place: str) -> TrustedKey:
    if not isinstance(value, dict) or not {"key"} <= set(value) <= {"key", *_KEY_NUMBERS, "rights"}:
        raise MalformedTrustFile(f"{place}: must be an object with key and at most {', '.join(_KEY_NUMBERS)}, rights")
    if not isinstance(value["key"], str):
        raise MalformedTrustFile(f"{place}.key: must be a string")
    try:
        verifier_key = parse_verifier_key(value["key"])
    except MalformedKey as error:
        raise MalformedTrustFile(f"{place}.key: {error}") from error
    numbers = {name: _parse_number(value[name], f"{place}.{name}") for name in _KEY_NUMBERS if name in value}
    rights = _parse_rights(value["rights"], f"{place}.rights") if "rights" in value else None
    return TrustedKey(verifier_key, **numbers, rights=rights)


def _parse_rights(value: Any, place: str) -> SourceRights:
    if not isinstance(value, dict) or set(value) != set(_RIGHTS):
        raise MalformedTrustFile(f"{place}: must be an object with exactly {', '.join(_RIGHTS)}")
    if not isinstance(value["source"], str):
        raise MalformedTrustFile(f"{place}.source: must be a string")
    lists = {name: _parse_names(value[name], f"{place}.{name}") for name in ("namespaces", "purposes")}
    levels = {name: _parse_number(value[name], f"{place}.{name}") for name in ("max_proof", "max_assurance")}
    return SourceRights(value["source"], **lists, **levels)  # type: ignore[arg-type]


def _parse_names(value: Any, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise MalformedTrustFile(f"{place}: must be a list of strings")
    return tuple(value)


def _format_key(key: TrustedKey) -> dict[str, Any]:
    content: dict[str, Any] = {"key": format_verifier_key(key.verifier_key)}
    content |= {name: getattr(key, name) for name in _KEY_NUMBERS if getattr(key, name) is not None}
    if key.rights is not None:
        content["rights"] = {name: getattr(key.rights, name) for name in _RIGHTS}
    return content
