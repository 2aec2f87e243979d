"""Which durability the record has: what the settings ask for, as far as the signed policy permits it."""

import logging
from typing import NamedTuple

from consent.policy import Policy
from journal.format import JournalMode
from sidecar.journal.writer import FileJournal, OnUnavailable

logger = logging.getLogger(__name__)


class Durability(NamedTuple):
    """How durable a record is when its answer leaves, and what becomes of an answer whose record cannot be kept."""

    mode: JournalMode
    on_unavailable: OnUnavailable


def permit(asked: Durability, policy: Policy | None) -> Durability:
    """What is in effect under a policy: `group` and `deny` in the place of what it does not permit. No policy permits nothing."""
    permitted = policy.journal_modes_permitted if policy is not None else frozenset()
    mode, on_unavailable = asked
    if mode is JournalMode.ASYNC and mode.value not in permitted:
        mode = JournalMode.GROUP
    if on_unavailable is OnUnavailable.ALLOW_AND_COUNT and on_unavailable.value not in permitted:
        on_unavailable = OnUnavailable.DENY
    return Durability(mode, on_unavailable)


def follow_policy(journal: FileJournal, asked: Durability, policy: Policy | None) -> None:
    """Put in effect what the policy permits, and say so where that changes something."""
    in_effect = permit(asked, policy)
    if journal.change(*in_effect):
        report(asked, in_effect)


def report(asked: Durability, in_effect: Durability) -> None:
    """Log what is in effect where the settings ask for something weaker than usual."""
    fields = {"mode": in_effect.mode.value, "on_unavailable": in_effect.on_unavailable.value}
    if in_effect != asked:
        logger.error(
            "the policy does not permit what the settings ask of the decision record; the stronger is in effect",
            extra={"fields": fields},
        )
    elif in_effect.mode is JournalMode.ASYNC or in_effect.on_unavailable is not OnUnavailable.DENY:
        logger.warning("the decision record is weaker than usual, as the policy permits", extra={"fields": fields})
