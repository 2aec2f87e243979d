"""Steps 14, 15 and 17: the record of what was decided, the way of an opt-out, and a search for what must not be anywhere."""

from typing import Any

from tests.e2e.demo.stage import Stage, Step, expect, find_suppression_file
from tests.e2e.processes import wait_until
from tests.e2e.search import IdentifierSearch
from tests.e2e.spans import read_check_spans, read_spans

_SHIPPING_SECONDS = 15.0
_WAY = ("consent.request", "consent.log.append", "consent.apply")


def show_trace(stage: Stage) -> Step:
    """Step 14."""
    assert stage.traced is not None
    decision_id, trace_id, parent_span_id = stage.traced
    spans: list[dict[str, Any]] = []

    def has_everything() -> bool:
        spans[:] = read_check_spans(stage.deployment.spans_path)
        return stage.decision_ids <= {span["attributes"]["consent.decision.id"] for span in spans}

    wait_until(has_everything, "a span of every decision has come", _SHIPPING_SECONDS)
    span = next(span for span in spans if span["attributes"]["consent.decision.id"] == decision_id)
    joined = (span["trace_id"], span["parent_span_id"])
    expect(joined == (trace_id, parent_span_id), "the span is not in the caller's trace")
    received = {span["attributes"]["consent.decision.id"] for span in spans}
    expect(received == stage.decision_ids, "spans came of decisions that nobody had asked for")
    stage.figures["Decisions answered, and received as spans"] = f"{len(stage.decision_ids):,} and {len(received):,}"
    table = {"name": span["name"], "kind": span["kind"]} | {
        name: span[name] for name in ("trace_id", "parent_span_id", "span_id")
    }
    table |= {"duration": f"{_duration_us(span)} µs", "service": span["resource"].get("service.instance.id", "")}
    return Step(
        [
            f"The receiver has a span of every one of the {len(received):,} decisions, those around both kills too",
            "Of step 13, in the caller's own trace:",
        ],
        table | span["attributes"],
    )


def show_way(stage: Stage) -> Step:
    """Step 15."""
    assert stage.first_opt_out is not None
    seq, way = stage.first_opt_out.token.seq, dict[str, dict[str, Any]]()

    def has_arrived() -> bool:
        spans = read_spans(stage.deployment.spans_path)
        traces = {span["trace_id"] for span in spans if span["attributes"].get("consent.log.seq") == seq}
        # After a restart an entry may be told of twice; a span sent twice is the same one.
        way.update({span["name"]: span for span in spans if span["trace_id"] in traces})
        return way.keys() >= set(_WAY)

    wait_until(has_arrived, "the spans of the opt-out have come", _SHIPPING_SECONDS)
    request, append, apply = (way[name] for name in _WAY)
    parents = append["parent_span_id"], apply["parent_span_id"]
    expect(parents == (request["span_id"], append["span_id"]), "the spans of the opt-out are not one tree")
    elapsed_ms = (apply["end_ns"] - request["start_ns"]) / 1_000_000
    where = apply["resource"].get("service.instance.id", "")
    rows = {
        name: f"{span['resource'].get('service.name', '')}, {_duration_us(span)} µs"
        for name, span in zip(_WAY, (request, append, apply), strict=True)
    }
    return Step(
        [
            f"Of step 5, one trace: the request, its entry {seq} in the log, and that it came into force at {where}",
            f"From the request to in force there: {elapsed_ms:.1f} ms",
        ],
        {"trace_id": request["trace_id"]} | rows,
    )


def _duration_us(span: dict[str, Any]) -> int:
    duration_us: int = (span["end_ns"] - span["start_ns"]) // 1000
    return duration_us


def search_everything(stage: Stage) -> Step:
    """Step 17."""
    there = stage.deployment
    codes = {program.name: program.stop() for program in reversed(there.programs)}
    expect(set(codes.values()) == {0}, f"exit codes after SIGTERM: {codes}")
    search = IdentifierSearch(stage.identifiers)
    file = find_suppression_file()
    control = list(search.find(file.read_bytes(), file.name))
    expect(len({hit.number for hit in control}) > 0, "the search does not even find them in the imported file")
    finding = search.search_folder(there.folder)
    places = sorted({f"{hit.place} ({hit.form})" for hit in finding.hits})
    expect(not places, f"identifiers in clear: {', '.join(places)}")
    count = len(set(stage.identifiers))
    stage.figures["Identifiers searched for, and found"] = f"{count} and 0"
    return Step(
        [
            "Everything stopped at SIGTERM with exit code 0",
            (
                f"{count} identifiers in {finding.patterns:,} spellings searched in {finding.files} files"
                f" ({finding.size_bytes:,} bytes: log, cache, journal, keys, settings, program logs, spans, evidence): no hit"
            ),
        ]
    )
