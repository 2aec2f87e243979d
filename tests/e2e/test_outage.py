"""The span receiver away for ten parts of twelve, with real decisions; `python -m tests.e2e.outage` runs the whole twelve minutes."""

import pytest

from tests.e2e.outage import Plan, run_outage, running_deployment


@pytest.mark.long(seconds=100)
def test_every_decision_that_was_answered_during_an_outage_is_received() -> None:
    with running_deployment() as deployment:
        report = run_outage(deployment, Plan(seconds=48, away_seconds=40, per_second=500))
    assert report.answered > 0
    assert report.backlog > 0
    assert (report.missing, report.differing) == (0, 0)
