"""Errors of policies: what is wrong, where in the document, and where in the file once a file is known."""

import re
from typing import ClassVar, Self

from consent.policy.wording import quote

_PLAIN_STEP = re.compile(r"[A-Za-z0-9_-]+")

DocumentPath = tuple[str | int, ...]
"""Where in a policy document: keys of mappings and indexes of lists, from the root."""


class PolicyError(ValueError):
    """Root of what this package raises. Expected: people write policies, and the text tells its author what to mend.

    Nothing in a policy is personal data, so the text quotes the offending value (escaped and cut).

    Args:
        message: What is wrong and what would be right.
        path: Where in the document.
        location: `file:line` of that place, once a file is known.
    """

    reason: ClassVar[str] = "POLICY_INVALID"

    def __init__(self, message: str, *, path: DocumentPath = (), location: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.location = location

    def __str__(self) -> str:
        return ": ".join(part for part in (self.location, format_path(self.path), self.message) if part)

    def locate(self, location: str) -> Self:
        """The same error with the place in a file."""
        return type(self)(self.message, path=self.path, location=location)

    def move(self, path: DocumentPath) -> Self:
        """The same error about another place of the document."""
        return type(self)(self.message, path=path, location=self.location)


class MalformedDocument(PolicyError):
    """Not YAML, not JSON, not UTF-8, or not the canonical form where that is required."""

    reason = "POLICY_MALFORMED"


class PolicyTooLarge(PolicyError):
    """More of something than a policy may hold."""

    reason = "POLICY_TOO_LARGE"


class UnknownKey(PolicyError):
    """A key that means nothing here."""

    reason = "POLICY_UNKNOWN_KEY"


class DuplicateKey(PolicyError):
    """One key, or one pair of purpose and jurisdiction, twice."""

    reason = "POLICY_DUPLICATE_KEY"


class DuplicatePurpose(DuplicateKey):
    """Two purposes of one name."""

    reason = "POLICY_DUPLICATE_PURPOSE"


class InvalidValue(PolicyError):
    """A value of the wrong type or outside its range."""

    reason = "POLICY_INVALID_VALUE"


class UnknownPurpose(PolicyError):
    """A regime or a caller names a purpose that the policy does not have."""

    reason = "POLICY_UNKNOWN_PURPOSE"


class UnknownParent(UnknownPurpose):
    """A purpose names a parent that the policy does not have."""

    reason = "POLICY_UNKNOWN_PARENT"


class CyclicPolicy(PolicyError):
    """Purposes that are their own ancestors."""

    reason = "POLICY_CYCLIC"


class RegimeTooWeak(PolicyError):
    """A purpose that rests on consent would run without it where the law asks for it."""

    reason = "POLICY_REGIME_TOO_WEAK"


class ForbiddenReplacement(PolicyError):
    """A policy that may not follow the one in force."""

    reason = "POLICY_FORBIDDEN_REPLACEMENT"


def format_path(path: DocumentPath) -> str:
    """A path as people read it: `purposes.marketing.parents[0]`; odd names stand in brackets and quotes."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN_STEP.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quote(step)}]"
    return text
