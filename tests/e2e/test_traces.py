"""One tree for what a person says, from their request to each sidecar, and one for each question that a service asks."""

from collections.abc import Iterator
from typing import Any

import pytest
from consentry_client import Identifier

from tests.e2e.deployment import SIDECAR_ID, Deployment
from tests.e2e.people import SITUATION
from tests.e2e.processes import wait_until
from tests.e2e.spans import read_spans

OTHER_SIDECAR = "traced-2"
REQUEST_TRACE, REQUEST_SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
CHECK_TRACE, CHECK_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def other_sidecar(deployment: Deployment) -> Iterator[str]:
    program = deployment.add_sidecar(OTHER_SIDECAR, {"journal.ship": True}).start()
    deployment.wait_until_ready(OTHER_SIDECAR, program)
    yield OTHER_SIDECAR
    assert program.stop() == 0


def spans_of(deployment: Deployment, trace_id: str) -> list[dict[str, Any]]:
    return [span for span in read_spans(deployment.spans_path) if span["trace_id"] == trace_id]


def instances(spans: list[dict[str, Any]], name: str) -> set[str]:
    """Who sent the spans of this name."""
    return {span["resource"]["service.instance.id"] for span in spans if span["name"] == name}


def test_opt_out_is_one_tree_to_each_apply_and_a_check_is_a_child_of_its_caller(
    deployment: Deployment, other_sidecar: str, person: Identifier
) -> None:
    with deployment.intake() as intake:
        token = intake.opt_out(person, "newsletter", traceparent=f"00-{REQUEST_TRACE}-{REQUEST_SPAN}-01").token
    with deployment.client() as client:
        decision = client.check(
            person,
            "newsletter",
            context=SITUATION,
            min_token=token,
            wait_seconds=10,
            traceparent=f"00-{CHECK_TRACE}-{CHECK_SPAN}-01",
        )

    def is_complete() -> bool:
        spans = spans_of(deployment, REQUEST_TRACE)
        has_request = bool(instances(spans, "consent.request"))
        has_applies = instances(spans, "consent.apply") == {SIDECAR_ID, other_sidecar}
        return has_request and has_applies and bool(spans_of(deployment, CHECK_TRACE))

    wait_until(is_complete, "the request, both sidecars' applies and the check have come as spans")
    spans = {span["span_id"]: span for span in spans_of(deployment, REQUEST_TRACE)}
    (root,) = (span for span in spans.values() if span["parent_span_id"] not in spans)
    assert (root["name"], root["parent_span_id"]) == ("consent.request", REQUEST_SPAN)
    (append,) = (span for span in spans.values() if span["name"] == "consent.log.append")
    assert append["parent_span_id"] == root["span_id"]
    applies = [span for span in spans.values() if span["name"] == "consent.apply"]
    assert {span["parent_span_id"] for span in applies} == {append["span_id"]}
    assert len(spans) == 2 + len(applies) == 4
    assert {span["attributes"]["consent.log.seq"] for span in (append, *applies)} == {token.seq}
    (check,) = spans_of(deployment, CHECK_TRACE)
    assert (check["name"], check["parent_span_id"]) == ("consent.check", CHECK_SPAN)
    assert check["attributes"]["consent.decision.id"] == str(decision.decision_id)


def test_opt_out_without_a_trace_begins_one(deployment: Deployment, person: Identifier) -> None:
    with deployment.intake() as intake:
        seq = intake.opt_out(person, "newsletter").token.seq

    tree = dict[str, dict[str, Any]]()

    def is_complete() -> bool:
        applies = [
            span
            for span in read_spans(deployment.spans_path)
            if span["name"] == "consent.apply" and span["attributes"]["consent.log.seq"] == seq
        ]
        for apply in applies:
            tree.update({span["name"]: span for span in spans_of(deployment, apply["trace_id"])})
        return "consent.request" in tree

    wait_until(is_complete, "request and apply have come as spans of one trace")
    assert tree["consent.request"]["parent_span_id"] == ""
    assert tree["consent.log.append"]["parent_span_id"] == tree["consent.request"]["span_id"]
    assert tree["consent.apply"]["parent_span_id"] == tree["consent.log.append"]["span_id"]
