"""Steps 14 and 15: the record of what was decided, and a search for what must not be anywhere."""

from typing import Any

from tests.e2e.demo.stage import Stage, Step, expect, find_suppression_file
from tests.e2e.processes import wait_until
from tests.e2e.search import IdentifierSearch
from tests.e2e.spans import read_check_spans

_SHIPPING_SECONDS = 15.0


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
    duration_us = (span["end_ns"] - span["start_ns"]) // 1000
    table |= {"duration": f"{duration_us} µs", "service": span["resource"].get("service.instance.id", "")}
    return Step(
        [
            f"The receiver has a span of every one of the {len(received):,} decisions, those around both kills too",
            "Of step 13, in the caller's own trace:",
        ],
        table | span["attributes"],
    )


def search_everything(stage: Stage) -> Step:
    """Step 15."""
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
                f" ({finding.size_bytes:,} bytes: log, cache, journal, keys, settings, program logs, spans): no hit"
            ),
        ]
    )
