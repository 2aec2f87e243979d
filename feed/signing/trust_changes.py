"""Changes to a trust file, one at a time: what `consentry-feed keys` does before the root key seals it anew."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from consent.eventlog.keys import KeyKind
from consent.eventlog.trust import SourceRights, Trust, TrustedKey
from feed.errors import FeedError

KEY_LISTS: Final[Mapping[str, str]] = {
    "log": "log_keys",
    "cosigner": "cosigner_keys",
    "witness": "witness_keys",
    "source": "source_keys",
    "approver": "approver_keys",
}
"""The list of each role."""
KINDS: Final[Mapping[str, KeyKind]] = {
    "root": KeyKind.LOG,
    "log": KeyKind.LOG,
    "cosigner": KeyKind.COSIGNER,
    "witness": KeyKind.COSIGNER,
    "source": KeyKind.SOURCE,
    "approver": KeyKind.APPROVER,
}
"""What kind of key each role needs."""


class KeyUnknown(FeedError):
    """No key of the trust file has this id, or more than one has. Expected: `consentry-feed keys show` lists them."""

    reason = "KEY_UNKNOWN"


class KeyNotRevocable(FeedError):
    """This key is taken back in another way."""

    reason = "KEY_NOT_REVOCABLE"


def add_key(trust: Trust, role: str, key: TrustedKey) -> Trust:
    """The trust file with one more key.

    Raises:
        MalformedTrustFile: It stands there already, or is of another kind than the role needs.
    """
    key_list = KEY_LISTS[role]
    return _replace(trust, {key_list: (*getattr(trust, key_list), key)})


def remove_key(trust: Trust, key_id: str) -> Trust:
    """The trust file without a key of the log, a cosigner or a witness: from now on its signatures are passed over.

    Raises:
        KeyUnknown: As its name says.
        KeyNotRevocable: A source's or an approver's, on whose word entries stand.
        MalformedTrustFile: Without it a threshold cannot be met, or the log has no key.
    """
    role, key = find_key(trust, key_id)
    if role in ("source", "approver"):
        raise KeyNotRevocable(
            "entries stand on this key's word: let it end with an entry (`keys retire KEY --last-seq SEQ`) instead"
        )
    key_list = KEY_LISTS[role]
    return _replace(trust, {key_list: tuple(kept for kept in getattr(trust, key_list) if kept is not key)})


def retire_key(trust: Trust, key_id: str, *, until_unix_seconds: int | None, last_seq: int | None) -> Trust:
    """The trust file in which a key ends: at a time, or with an entry.

    Raises:
        KeyUnknown: As its name says.
        MalformedTrustFile: The end lies before the beginning, or `last_seq` is given for a key that signs no single entries.
    """
    role, key = find_key(trust, key_id)
    ended = replace(
        key,
        not_after_unix_seconds=key.not_after_unix_seconds if until_unix_seconds is None else until_unix_seconds,
        last_seq=key.last_seq if last_seq is None else last_seq,
    )
    key_list = KEY_LISTS[role]
    return _replace(trust, {key_list: tuple(ended if kept is key else kept for kept in getattr(trust, key_list))})


def change_numbers(trust: Trust, numbers: Mapping[str, int | None]) -> Trust:
    """The trust file with other thresholds or another minimum size; None leaves one as it is.

    Raises:
        MalformedTrustFile: A number cannot be met.
    """
    return _replace(trust, {name: number for name, number in numbers.items() if number is not None})


def find_key(trust: Trust, key_id: str) -> tuple[str, TrustedKey]:
    """Role and key of an id of 8 hexadecimal digits.

    Raises:
        KeyUnknown: As its name says.
    """
    found = [
        (role, key)
        for role, key_list in KEY_LISTS.items()
        for key in getattr(trust, key_list)
        if key.verifier_key.key_id.hex() == key_id.lower()
    ]
    if len(found) != 1:
        raise KeyUnknown("key: no key of the trust file, or more than one, has this id")
    return found[0]


def make_rights(source: str, namespaces: list[str], purposes: list[str], proof: int, assurance: int) -> SourceRights:
    """What a source may vouch for; nothing named means everything.

    Raises:
        MalformedTrustFile: A name or a level is out of range.
    """
    return SourceRights(source, tuple(namespaces) or ("*",), tuple(purposes) or ("*",), proof, assurance)


def _replace(trust: Trust, changes: Mapping[str, Any]) -> Trust:
    return replace(trust, **changes)
