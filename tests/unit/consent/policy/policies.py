"""Small policies for tests, from plain data."""

from typing import Any

from consent.policy import Policy, policy_from_mapping


def make_policy(purposes: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Policy:
    """A policy of these purposes, or of one named `marketing`, with further keys of a document."""
    return policy_from_mapping({"purposes": {"marketing": {}} if purposes is None else purposes, **keys})


def make_regime(purpose: str, jurisdiction: str, regime: str) -> dict[str, str]:
    """One entry of the table."""
    return {"purpose": purpose, "jurisdiction": jurisdiction, "regime": regime}
