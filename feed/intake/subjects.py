"""From identifiers to tokens: the only place of the feed in which a person's identifier is looked at."""

from typing import NamedTuple

from consent.errors import InvalidIdentifier
from consent.vocabulary.subject import TOKEN_BYTES, Tokeniser
from feed.intake.requests import Subject


class ResolvedSubject(NamedTuple):
    """The token of a subject, or why there is none.

    A fault is kept rather than raised: also a request that names nobody gets its entry in the log.

    Attributes:
        token: 16 bytes; empty where there is a fault.
        fault: Why the subject cannot be named so.
    """

    token: bytes
    fault: InvalidIdentifier | None = None


def resolve_subject(subject: Subject, field: str, tokeniser: Tokeniser) -> ResolvedSubject:
    """The token of a subject.

    Args:
        subject: As it came in.
        field: Its field, for the text of a fault.
        tokeniser: Of the tenant.
    """
    if subject.token:
        return _check_token(subject, field)
    try:
        return ResolvedSubject(tokeniser.token(subject.namespace, subject.value))
    except InvalidIdentifier as error:
        # The text starts with `identifier`, whatever the field is called here.
        return ResolvedSubject(b"", InvalidIdentifier(str(error).replace("identifier", field, 1)))


def require_token(resolved: ResolvedSubject) -> bytes:
    """The token.

    Raises:
        InvalidIdentifier: The fault, where there is one.
    """
    if resolved.fault is not None:
        raise resolved.fault
    return resolved.token


def _check_token(subject: Subject, field: str) -> ResolvedSubject:
    if subject.namespace or subject.value:
        return ResolvedSubject(b"", InvalidIdentifier(f"{field}: a token and an identifier exclude each other"))
    if len(subject.token) != TOKEN_BYTES:
        return ResolvedSubject(b"", InvalidIdentifier(f"{field}.token must have {TOKEN_BYTES} bytes"))
    if subject.key_epoch:
        return ResolvedSubject(
            b"", InvalidIdentifier(f"{field}.key_epoch must be 0: intake takes tokens of that epoch")
        )
    return ResolvedSubject(subject.token)
