"""The canonical document: the bytes of a policy that approvers sign and a POLICY event carries.

JSON (RFC 8259) with keys sorted by code point, no white space, UTF-8 in NFC, no escapes but those that JSON demands,
and without fields that have their default. So one policy has one document, and a field that a later version adds leaves
older documents as they are.
"""

import json
from typing import Never

from consent.policy.errors import DuplicateKey, InvalidValue, MalformedDocument, PolicyTooLarge
from consent.policy.mapping import policy_from_mapping, policy_to_mapping
from consent.policy.model import Policy
from consent.policy.wording import quote

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024

_MAX_DIGITS = 18


def parse_policy(document: bytes) -> Policy:
    """Parses a canonical document.

    Args:
        document: What `format_policy` made; at most 4 MiB.

    Raises:
        MalformedDocument: Not UTF-8, not JSON, or not canonical.
        PolicyError: As the subclass says.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise PolicyTooLarge(f"the document has {len(document)} bytes, the most is {MAX_DOCUMENT_BYTES}")
    try:
        mapping = json.loads(
            document.decode("utf-8"),
            object_pairs_hook=_read_object,
            parse_int=_read_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except UnicodeDecodeError as error:
        raise MalformedDocument(f"the document is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise MalformedDocument(f"the document is not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise MalformedDocument("the document is nested too deeply") from None
    policy = policy_from_mapping(mapping)
    if format_policy(policy) != document:
        raise MalformedDocument("the document is not canonical: format_policy writes it otherwise")
    return policy


def format_policy(policy: Policy) -> bytes:
    """The canonical document of a policy; `parse_policy` reads it back.

    Raises:
        PolicyTooLarge: It would have more than 4 MiB.
    """
    text = json.dumps(policy_to_mapping(policy), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    document = text.encode("utf-8")
    if len(document) > MAX_DOCUMENT_BYTES:
        raise PolicyTooLarge(f"the document would have {len(document)} bytes, the most is {MAX_DOCUMENT_BYTES}")
    return document


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKey(f"the key {quote(key)} stands twice in one object")
            seen.add(key)
    return content


def _read_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise InvalidValue(f"a number has {len(digits)} digits, the most is {_MAX_DIGITS}")
    return int(digits)


def _refuse_number(text: str) -> Never:
    raise InvalidValue(f"{quote(text)} is not a whole number")
