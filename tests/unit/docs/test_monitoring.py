"""Dashboard and alert rules: they parse, and speak only of metrics, labels and values that the programs have."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import promql_parser
import pytest
import yaml

from consent.event import EventType
from consent.vocabulary.reason import Effect, Reason
from feed.errors import FeedError
from feed.telemetry.families import FAMILIES as FEED_FAMILIES
from hosting.metrics import Family, Kind
from sidecar.ports import SyncState
from sidecar.telemetry.families import FAMILIES as SIDECAR_FAMILIES
from tests.unit.docs.pages import REPOSITORY, read_page
from tests.unit.docs.test_pages import to_anchor, with_subclasses

MONITORING = REPOSITORY / "helm" / "monitoring"
FAMILIES = {family.name: family for family in (*SIDECAR_FAMILIES, *FEED_FAMILIES)}
SCRAPED = {"instance", "job"}
"""Labels that every scraper adds."""
REASONS = {*Reason, "INTERNAL", *(error.reason for error in with_subclasses(FeedError))}
VALUES: dict[str, set[str]] = {
    "effect": set(Effect),
    "reason": REASONS,
    "state": set(SyncState),
    "type": {each.name for each in EventType},
    "method": {"Check", "CheckBatch", "CheckStream", "Explain"},
}


def load_rules() -> list[dict[str, Any]]:
    content = yaml.safe_load((MONITORING / "alert-rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def load_panels() -> list[dict[str, Any]]:
    content = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return list(content["panels"])


RULES, PANELS = load_rules(), load_panels()
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel.get("targets", ())]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every selector of an expression, which must parse; Grafana's own variables stand for plain values."""
    for variable, value in (("$__rate_interval", "5m"), ("$sidecar", ".*"), ("$feed", ".*")):
        expression = expression.replace(variable, value)
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def family_of(name: str) -> Family:
    """The family that a series belongs to."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    if name not in FAMILIES and base in FAMILIES and FAMILIES[base].kind is Kind.HISTOGRAM:
        return FAMILIES[base]
    return FAMILIES[name]


def labels_of(expression: str) -> set[str]:
    """Labels that some series of the expression has."""
    return SCRAPED.union(*(family_of(each.name or "").labels for each in selectors(expression)))


def verify_expression(expression: str) -> None:
    """Fails for a metric, a label or a label's value that no program has."""
    found = selectors(expression)
    assert found
    for selector in found:
        family = family_of(selector.name or "")
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*family.labels, *SCRAPED}
            assert matcher.name not in VALUES or set(matcher.value.split("|")) <= VALUES[matcher.name]
    grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")}
    assert grouped <= {*labels_of(expression), "le"}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_alert_rule_speaks_of_what_there_is_and_says_what_to_do(rule: dict[str, Any]) -> None:
    verify_expression(rule["expr"])
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "runbook"}
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels_of(rule["expr"])
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in {to_anchor(line) for line in re.findall(r"^#+ (.*)$", read_page(page), re.MULTILINE)}


def test_alert_rules_cover_what_operators_must_not_miss() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    used = {selector.name for rule in RULES for selector in selectors(rule["expr"])}
    assert used >= {
        "consentry_ready",
        "consentry_staleness_seconds",
        "consentry_journal_writable",
        "consentry_journal_backlog_records",
        "consentry_shipper_failing_seconds",
        "consentry_certificate_expiry_seconds",
        "consentry_decisions_total",
        "consentry_feed_fleet_lag_entries",
        "consentry_feed_sidecar_journal_head_age_seconds",
    }


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title}-{each['refId']}" for title, each in TARGETS])
def test_dashboard_query_speaks_of_what_there_is(title: str, target: dict[str, Any]) -> None:
    verify_expression(target["expr"])
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels_of(target["expr"])


def test_dashboard_panels_have_their_place_and_a_description() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["type"] == "row" or panel["description"] for panel in PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


@pytest.mark.parametrize(
    "expression",
    [
        "consentry_gone == 0",
        'consentry_decisions_total{subject="x"} > 0',
        'consentry_decisions_total{effect="PERHAPS"} > 0',
        "sum by (caller) (consentry_decisions_total)",
        "consentry_ready_bucket > 0",
    ],
)
def test_what_no_program_has_would_be_seen(expression: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        verify_expression(expression)


def documented() -> Iterator[str]:
    yield from re.findall(r"^\| `(\w+)` ", read_page("docs/metrics.md"), re.MULTILINE)


def test_every_metric_is_documented_once_per_program_and_nothing_else_is() -> None:
    names = [family.name for families in (SIDECAR_FAMILIES, FEED_FAMILIES) for family in families]
    assert sorted(documented()) == sorted(names)
