"""Whom the end-to-end tests ask about, and where these people are."""

import uuid

from consentry_client import Context, Identifier, email

# Opt-out rules there, so that every answer about a person who has said nothing is ALLOW.
SITUATION = Context("US-CA")


def make_person() -> Identifier:
    """Somebody of whom nobody has heard."""
    return email(f"person-{uuid.uuid4().hex}@example.com")
