"""The text that scrapers read, parsed again by the library's own parsers."""

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from hosting.metrics import Counter, Family, Histogram, Kind, Registry
from hosting.metrics.prometheus import render

CALLS = Family("calls_total", Kind.COUNTER, "Calls.", ("reason",))
SIZE = Family("size_bytes", Kind.GAUGE, 'Size, "in bytes"\n\\ of all.')
SPEED = Family("speed_seconds", Kind.HISTOGRAM, "Speed.", ("method",))
SPAN = (bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331"))
HOSTILE = 'a"b\\c\nd{e="f"}'


@pytest.fixture
def registry() -> Registry:
    registry, calls, speed = Registry(), Counter(CALLS), Histogram(SPEED, (0.1, 1.0))
    calls.add((HOSTILE,), 3)
    speed.observe(0.05, ("Check",), SPAN)
    speed.observe(5.0, ("Check",))
    registry.add(calls, speed)
    registry.read(SIZE, lambda: 7)
    return registry


def test_render_plain_text_reads_back(registry: Registry) -> None:
    text, content_type = render(registry.collect(), "text/plain; version=0.0.4, */*")
    families = {family.name: family for family in parser.text_string_to_metric_families(text.decode())}
    assert content_type.startswith("text/plain; version=0.0.4")
    assert [(sample.labels, sample.value) for sample in families["calls"].samples] == [({"reason": HOSTILE}, 3)]
    assert [sample.value for sample in families["size_bytes"].samples] == [7]
    assert {sample.labels.get("le", sample.name): sample.value for sample in families["speed_seconds"].samples} == {
        "0.1": 1,
        "1.0": 1,
        "+Inf": 2,
        "speed_seconds_count": 2,
        "speed_seconds_sum": 5.05,
    }


def test_render_openmetrics_carries_the_trace_of_a_slow_call(registry: Registry) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    text, content_type = render(registry.collect(), accept)
    parsed = openmetrics_parser.text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    exemplars = [sample.exemplar for sample in families["speed_seconds"].samples if sample.exemplar is not None]
    assert [(each.labels, each.value) for each in exemplars] == [
        ({"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}, 0.05)
    ]


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text;version=x;escaping=ä", ",;,=", "text/html"]
)
def test_render_answers_whatever_is_accepted(registry: Registry, accept: str) -> None:
    text, _ = render(registry.collect(), accept)
    assert b"size_bytes 7" in text
