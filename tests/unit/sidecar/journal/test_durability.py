"""A weaker record than usual takes the leave of the signed policy."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from consent.policy import Policy
from journal.format import JournalMode
from sidecar.journal.durability import Durability, follow_policy, permit, report
from sidecar.journal.writer import FileJournal, OnUnavailable
from tests.fakes.clock import FakeClock
from tests.fakes.histories import POLICY
from tests.fakes.journal_material import SealingKeys

WEAK = Durability(JournalMode.ASYNC, OnUnavailable.ALLOW_AND_COUNT)
STRONG = Durability(JournalMode.GROUP, OnUnavailable.DENY)


def permitting(*modes: str) -> Policy:
    return replace(POLICY, journal_modes_permitted=frozenset(modes))


@pytest.mark.parametrize(
    ("asked", "policy", "in_effect"),
    [
        (WEAK, None, STRONG),
        (WEAK, POLICY, STRONG),
        (WEAK, permitting("async"), Durability(JournalMode.ASYNC, OnUnavailable.DENY)),
        (WEAK, permitting("allow_and_count"), Durability(JournalMode.GROUP, OnUnavailable.ALLOW_AND_COUNT)),
        (WEAK, permitting("async", "allow_and_count"), WEAK),
        (STRONG, permitting("async", "allow_and_count"), STRONG),
        (Durability(JournalMode.SYNC, OnUnavailable.DENY), None, Durability(JournalMode.SYNC, OnUnavailable.DENY)),
    ],
)
def test_permit_lets_nothing_weaker_through_than_the_policy_says(
    asked: Durability, policy: Policy | None, in_effect: Durability
) -> None:
    assert permit(asked, policy) == in_effect


def test_follow_policy_takes_leave_given_and_withdrawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = FileJournal.open(tmp_path / "journal", SealingKeys(), "pod-1", JournalMode.GROUP, FakeClock())
    try:
        with caplog.at_level(logging.WARNING):
            report(WEAK, STRONG)
            follow_policy(journal, WEAK, None)
            follow_policy(journal, WEAK, permitting("async", "allow_and_count"))
            assert (journal.mode, journal.on_unavailable) == WEAK
            follow_policy(journal, WEAK, permitting())
            assert (journal.mode, journal.on_unavailable) == STRONG
    finally:
        journal.close()
    levels = [entry.levelno for entry in caplog.records if "record" in entry.message]
    assert levels == [logging.ERROR, logging.WARNING, logging.ERROR]
