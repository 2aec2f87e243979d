"""What the steps of the demo share: the deployment, the people, every question asked, and what was found."""

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consentry_client import Acceptance, Context, Decision, Identifier, email, user

from tests.e2e.deployment import Deployment
from tests.e2e.processes import REPOSITORY

HERE = Path(__file__).resolve().parent
POLICY_FILE = HERE / "policy.yaml"
OWN_SUPPRESSION_FILE = HERE / "unsubscribed.csv"
SHARED_SUPPRESSION_FILE = "data/imports/mailchimp_unsubscribed.csv"

# A new checkpoint every half second, signed heads as often, and no long pauses before a new attempt: what takes minutes in production
# is seen here.
ENVIRON = {
    "CONSENTRY_FEED_EVENT_LOG__JOURNAL_HEADS_SECONDS": "0.5",
    "CONSENTRY_FEED_EVENT_LOG__RECEIPTS_SECONDS": "0.5",
    "CONSENTRY_SIDECAR_JOURNAL__HEAD_SECONDS": "1",
    "CONSENTRY_FEED_EVENT_LOG__RESIGN_SECONDS": "0.5",
    "CONSENTRY_SIDECAR_FEED__BACKOFF_MOST_MS": "300",
}
SITUATION = Context("DE")

ADA = email("ada.lovelace@example.com")
ADAS_ACCOUNT = user("member-48151623")
GRACE = email("grace.hopper@example.org")
KATHERINE = email("katherine.johnson@example.net")
PEOPLE = {ADA: "Ada", ADAS_ACCOUNT: "Ada's account", GRACE: "Grace", KATHERINE: "Katherine"}


class Unexpected(AssertionError):
    """A step did not show what it must; the text says what came instead."""


def expect(condition: bool, text: str) -> None:
    """Go on if something holds.

    Raises:
        Unexpected: It does not.
    """
    if not condition:
        raise Unexpected(text)


@dataclass
class Step:
    """What a step has to tell.

    Attributes:
        facts: Sentences, shown below its line.
        table: Names and values, shown below these.
    """

    facts: list[str] = field(default_factory=list)
    table: Mapping[str, object] = field(default_factory=dict)


class Stage:
    """Carried from step to step.

    Args:
        folder: Where everything is.
    """

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder, ENVIRON)
        self.resources = ExitStack()
        self.resources.enter_context(self.deployment)
        self.client = self.resources.enter_context(self.deployment.client())
        self.web = self.resources.enter_context(self.deployment.intake("intake-web"))
        self.accounts = self.resources.enter_context(self.deployment.intake("intake-accounts"))
        self.identifiers = [person.value for person in PEOPLE]
        self.decision_ids: set[str] = set()
        self.answers: dict[tuple[Identifier, str], str] = {}
        self.first_opt_out: Acceptance | None = None
        self.accepted_at = 0.0
        self.traced: tuple[str, str, str] | None = None
        self.killed_at = 0.0
        self.figures: dict[str, str] = {}

    def ask(self, person: Identifier, purpose: str, **options: Any) -> Decision:
        """Ask the sidecar, and keep the answer's id."""
        decision = self.client.check(person, purpose, context=SITUATION, **options)
        expect(not decision.failed, f"no decision was had: {decision.reason} {decision.error} {decision.error_reason}")
        self.decision_ids.add(str(decision.decision_id))
        return decision

    def show(self, person: Identifier, purpose: str, expected: str, **options: Any) -> str:
        """Ask, expect `EFFECT REASON`, remember the question, and return a sentence.

        Raises:
            Unexpected: Another answer came.
        """
        answer = describe(self.ask(person, purpose, **options))
        who = PEOPLE.get(person, "An imported address")
        expect(answer == expected, f"{who}, {purpose}: {answer}, expected {expected}")
        self.answers[person, purpose] = answer
        return f"{who}, {purpose}: {answer}"

    def ask_everything_again(self) -> dict[tuple[Identifier, str], str]:
        """The answers to every question so far, as they are now."""
        return {question: describe(self.ask(*question)) for question in self.answers}


def describe(decision: Decision) -> str:
    """An answer as `EFFECT REASON`."""
    return f"{decision.effect} {decision.reason}"


def find_suppression_file() -> Path:
    """A provider's export from the shared data, or where that is not there the demo's own of the same shape."""
    shared = Path(os.environ.get("CONSENTRY_SHARED", REPOSITORY.parent / "shared")) / SHARED_SUPPRESSION_FILE
    return shared if shared.is_file() else OWN_SUPPRESSION_FILE


def parse_json(text: str, what: str) -> dict[str, Any]:
    """Read what a command printed for scripts.

    Raises:
        Unexpected: It is no JSON object.
    """
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise Unexpected(f"{what} printed no JSON object")
    return parsed
