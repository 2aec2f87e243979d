"""What may be asked of the AuditService, and what the log says about a request."""

import hashlib
import re
from typing import Final

from consentry.feed.v1 import audit_pb2

from feed.errors import InvalidRequest

MAX_DAYS: Final = 400
MAX_PURPOSE_CHARACTERS: Final = 200

_RECIPIENT: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: As phone numbers, customer numbers and the like are written.
_MANY_DIGITS: Final = re.compile(r"\d{7}")
_KEY_HASH_DIGITS: Final = 16


def describe_read_log(request: audit_pb2.ReadLogRequest) -> str:
    """What the log says about a ReadLog; raises InvalidRequest."""
    if request.from_seq < 1:
        raise InvalidRequest("from_seq: must be at least 1")
    return f"from entry {request.from_seq}"


def describe_resolve(request: audit_pb2.ResolveRequest) -> str:
    """What the log says about a Resolve: why somebody asks, and never about whom.

    Raises:
        InvalidRequest: There is no purpose, or one that the log must not hold; or the days are not in order.
    """
    verify_days(request.from_day, request.to_day)
    purpose = request.purpose.strip()
    if not purpose or len(purpose) > MAX_PURPOSE_CHARACTERS or not purpose.isprintable():
        raise InvalidRequest(f"purpose: must be 1 to {MAX_PURPOSE_CHARACTERS} printable characters")
    if "@" in purpose or _MANY_DIGITS.search(purpose):
        raise InvalidRequest("purpose: must not name a person: no '@', and no seven digits in a row")
    return purpose


def describe_get_replay_keys(request: audit_pb2.GetReplayKeysRequest) -> str:
    """What the log says about a GetReplayKeys: for whom, and for which days; raises InvalidRequest."""
    verify_days(request.from_day, request.to_day)
    if not _RECIPIENT.fullmatch(request.recipient_name):
        raise InvalidRequest("recipient_name: must be 1 to 63 letters, digits, dots, hyphens or underscores")
    key_hash = hashlib.sha256(request.recipient_public_key).hexdigest()[:_KEY_HASH_DIGITS]
    return f"auditor {request.recipient_name}, key sha256:{key_hash}, days {request.from_day} to {request.to_day}"


def verify_days(from_day: int, to_day: int) -> None:
    """Raise InvalidRequest unless these are the first and last of at most `MAX_DAYS` days."""
    if not from_day <= to_day < from_day + MAX_DAYS:
        raise InvalidRequest(f"from_day, to_day: must be the first and last of at most {MAX_DAYS} days")
