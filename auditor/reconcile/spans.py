"""Spans as an OTLP file exporter writes them, one JSON request a line, against the decisions that are recorded."""

import json
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from auditor.errors import FolderUnusable
from auditor.findings import Finding, Severity
from auditor.reconcile.ledger import Ledger
from auditor.reconcile.report import SpanCount
from consent.decision_record import Item
from hosting.telemetry import attributes

_MOST_NAMED = 1_000


class ExportedDecision(NamedTuple):
    """A decision that a span tells of.

    Attributes:
        decision_id: 16 bytes.
        digest: Of what it says.
        sidecar_id: Who exported it, as the resource says.
    """

    decision_id: bytes
    digest: bytes
    sidecar_id: str


def digest_item(item: Item) -> bytes:
    """A short digest of what the span of an item must say."""
    return _digest(item.effect.value, item.reason.value, [pseudonym.hex() for pseudonym in item.pseudonyms])


def read_spans(path: Path, on_bytes: Callable[[int], None]) -> Iterator[ExportedDecision]:
    """Every decision in a file, as often as it stands there; spans of other programs are passed over.

    Raises:
        FolderUnusable: A line is no OTLP JSON, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                on_bytes(len(line))
                if line.strip():
                    yield from _read_line(path, number, line)
    except OSError as error:
        raise FolderUnusable(f"{path}: {error.strerror}") from None


def find_span_differences(ledger: Ledger, counted: SpanCount, known_sidecars: frozenset[str]) -> Iterator[Finding]:
    """Hold spans and records against each other, and count them.

    Args:
        ledger: With both in it.
        counted: Filled.
        known_sidecars: Whose journals are in the folder.
    """
    counted.decisions = ledger.count("SELECT count(*) FROM spans")
    counted.repeated = ledger.count("SELECT count(*) FROM spans WHERE times > 1")
    missing = "FROM recorded LEFT JOIN spans USING (id) WHERE spans.id IS NULL"
    counted.missing = ledger.count(f"SELECT count(*) {missing} AND recorded.is_shipped IS NOT 0")
    counted.waiting = ledger.count(f"SELECT count(*) {missing} AND recorded.is_shipped IS 0")
    for (decision_id,) in ledger.select(f"SELECT id {missing} AND recorded.is_shipped IS NOT 0 LIMIT {_MOST_NAMED}"):
        yield Finding("SPAN_MISSING", f"decision {_format_id(decision_id)} is recorded and was not exported")
    if counted.waiting:
        text = f"{counted.waiting} recorded decisions are not exported yet"
        yield Finding("SPANS_WAITING", text, Severity.NOTE)
    for decision_id, sidecar in ledger.select("SELECT id, sidecar FROM spans WHERE differs LIMIT ?", _MOST_NAMED):
        text = f"decision {_format_id(decision_id)} was exported more than once, and not the same each time"
        yield Finding("SPANS_DIFFER", text, sidecar_id=sidecar)
    query = "SELECT id, sidecar FROM spans JOIN recorded USING (id) WHERE spans.digest != recorded.digest LIMIT ?"
    for decision_id, sidecar in ledger.select(query, _MOST_NAMED):
        text = f"decision {_format_id(decision_id)} was exported otherwise than it is recorded"
        yield Finding("SPAN_UNLIKE_RECORD", text, sidecar_id=sidecar)
    query = "SELECT spans.id, spans.sidecar FROM spans LEFT JOIN recorded USING (id) WHERE recorded.id IS NULL"
    for decision_id, sidecar in ledger.select(f"{query} LIMIT ?", _MOST_NAMED):
        is_known = sidecar in known_sidecars
        text = f"decision {_format_id(decision_id)} was exported and no journal here records it"
        yield Finding("SPAN_WITHOUT_RECORD", text, Severity.FINDING if is_known else Severity.NOTE, sidecar)
    if counted.repeated:
        text = f"{counted.repeated} decisions were exported more than once, the same each time unless said otherwise"
        yield Finding("SPANS_REPEATED", text, Severity.NOTE)


def _read_line(path: Path, number: int, line: bytes) -> Iterator[ExportedDecision]:
    try:
        request = json.loads(line)
        for resource in request.get("resourceSpans", ()):
            sidecar_id = _attributes_of(resource.get("resource", {})).get(attributes.SERVICE_INSTANCE_ID, "")
            for scope in resource.get("scopeSpans", ()):
                for span in scope.get("spans", ()):
                    yield from _read_span(span, str(sidecar_id))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise FolderUnusable(f"{path}: line {number} is no OTLP request in JSON") from None


def _read_span(span: dict[str, Any], sidecar_id: str) -> Iterator[ExportedDecision]:
    if span.get("name") not in (attributes.SPAN_CHECK, attributes.SPAN_ITEMS):
        return
    described = [
        _attributes_of(event) for event in span.get("events", ()) if event["name"] == attributes.EVENT_DECISION
    ]
    own = _attributes_of(span)
    # A batch's own span bears the id of its first item, which is among its events or its children's.
    if span["name"] == attributes.SPAN_CHECK and attributes.BATCH_SIZE not in own:
        described.append(own)
    for values in described:
        digest = _digest(
            values.get(attributes.DECISION_EFFECT),
            values.get(attributes.DECISION_REASON),
            values.get(attributes.SUBJECT_PSEUDONYM, []),
        )
        yield ExportedDecision(UUID(values[attributes.DECISION_ID]).bytes, digest, sidecar_id)


def _attributes_of(place: dict[str, Any]) -> dict[str, Any]:
    return {attribute["key"]: _value_of(attribute["value"]) for attribute in place.get("attributes", ())}


def _value_of(value: dict[str, Any]) -> Any:
    if "arrayValue" in value:
        return [_value_of(element) for element in value["arrayValue"].get("values", ())]
    return next(iter(value.values()), None)


def _digest(effect: object, reason: object, pseudonyms: object) -> bytes:
    return blake2b(json.dumps([effect, reason, pseudonyms]).encode(), digest_size=8).digest()


def _format_id(decision_id: bytes) -> str:
    return str(UUID(bytes=decision_id))
