"""START notes of the journals: 8.9 (settings, and what changed), 5.14, 8.20, 8.21 (how connections are protected)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from auditor.evidence.events import Collector, EntrySeen, NoteSeen, SegmentSeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time
from auditor.evidence.scope import Scope
from auditor.findings import Finding, Severity
from consent.event import PolicyEvent
from journal.format import FrameKind, JournalMode

CONFIGURATION, NETWORK = "8.9_8.32", "5.14_8.20_8.21"


#: What of a start record is no setting.
_ABOUT_ITSELF = frozenset({"format", "sidecar_id", "at_ms"})
_WEAK = {("mode", "async"), ("on_unavailable", "allow_and_count")}


class _Start(NamedTuple):
    time_ms: int
    chain_id: bytes
    settings: Mapping[str, str]


class SettingsCollector(Collector):
    """Collects what each process said about itself when it began its chain.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._starts: dict[str, list[_Start]] = {}
        self._modes: set[tuple[str, str]] = set()
        self._policies: list[tuple[Cell, ...]] = []
        self._unreadable = 0

    def see_entry(self, seen: EntrySeen) -> None:
        """Changes of the policy."""
        if isinstance(seen.event, PolicyEvent) and seen.is_in_period:
            event = seen.event
            row = (seen.seq, format_time(seen.logged_at_ms), event.version, event.replaces_version, event.source)
            self._policies.append((*row, len(event.document)))

    def see_segment(self, seen: SegmentSeen) -> None:
        """The mode that a segment is written in."""
        if seen.mode == JournalMode.ASYNC:
            self._modes.add((seen.sidecar_id, seen.chain_id.hex()))

    def see_note(self, seen: NoteSeen) -> None:
        """What a process said when it began."""
        if seen.kind != FrameKind.START:
            return
        try:
            content = json.loads(seen.content)
        except (ValueError, RecursionError):
            self._unreadable += 1
            return
        if not isinstance(content, dict):
            self._unreadable += 1
            return
        at_ms = content.get("at_ms")
        settings = {name: part for name, part in _flatten("", content) if name not in _ABOUT_ITSELF}
        time_ms = at_ms if isinstance(at_ms, int) else seen.segment.created_ms
        self._starts.setdefault(seen.segment.sidecar_id, []).append(_Start(time_ms, seen.segment.chain_id, settings))

    def write(self, report: Report) -> None:
        """Settings in force, changes between starts, and connections."""
        section = report[CONFIGURATION]
        count = sum(len(starts) for starts in self._starts.values())
        section.add_source(f"journals: {count} start records of {len(self._starts)} sidecars; event log: every policy")
        section.add_figure("starts of sidecars recorded", count)
        section.add_figure("policies put in force in the period", len(self._policies))
        if not count:
            section.add_open("Settings of the sidecars: no start record can be read", "whoever operates the sidecars")
        if self._unreadable:
            text = f"{self._unreadable} start records are in a form that this version does not read"
            section.add_finding(Finding("START_UNREADABLE", text, Severity.NOTE))
        columns = ("seq", "about", "version", "replaces", "sent by", "bytes")
        section.add_table("policies", "Policies put in force", columns, self._policies)
        self._write_changes(report)
        for sidecar_id, chain in sorted(self._modes):
            text = "a segment was begun in mode async"
            section.add_finding(Finding("WEAK_MODE", text, Severity.NOTE, sidecar_id, chain))
        self._write_network(report)

    def _write_changes(self, report: Report) -> None:
        section = report[CONFIGURATION]
        in_force, starts_rows, changes = list[tuple[Cell, ...]](), list[tuple[Cell, ...]](), list[tuple[Cell, ...]]()
        for sidecar_id, starts in sorted(self._starts.items()):
            ordered = sorted(start for start in starts if start.time_ms < self._scope.period.end_ms)
            for before, start in zip([None, *ordered[:-1]], ordered, strict=True):
                if not self._scope.period.holds(start.time_ms):
                    continue
                time = format_time(start.time_ms)
                settings = start.settings
                starts_rows.append(
                    (sidecar_id, time, settings.get("version", ""), settings.get("mode", ""), start.chain_id.hex())
                )
                changes += ((sidecar_id, time, *change) for change in _differences(before, start))
                for name, value in sorted(_WEAK & set(settings.items())):
                    text = f"{name} was {value}, which promises less than the default"
                    section.add_finding(Finding("WEAK_MODE", text, Severity.NOTE, sidecar_id, time))
            if ordered:
                in_force += ((sidecar_id, name, value) for name, value in sorted(ordered[-1].settings.items()))
        section.add_table(
            "starts", "Starts of sidecars in the period", ("sidecar", "time", "version", "mode", "chain"), starts_rows
        )
        columns = ("sidecar", "start", "setting", "before", "after")
        section.add_table("changes", "Settings that changed from one start to the next", columns, changes)
        section.add_table(
            "settings", "Settings at the newest start of each sidecar", ("sidecar", "setting", "value"), in_force
        )

    def _write_network(self, report: Report) -> None:
        section = report[NETWORK]
        section.add_source("journals: addresses and TLS settings in the newest start record of each sidecar")
        rows, facts = list[tuple[Cell, ...]](), list[tuple[Cell, ...]]()
        for sidecar_id, starts in sorted(self._starts.items()):
            settings = max(starts).settings
            for name, value in sorted(settings.items()):
                if name.endswith("address"):
                    rows.append((sidecar_id, name, value, _protection(settings, name, value)))
                elif name.startswith("certificates."):
                    is_time = name.endswith("_ms") and value.isdigit()
                    facts.append((sidecar_id, name, format_time(int(value)) if is_time else value))
        section.add_table(
            "connections", "Connections and their protection", ("sidecar", "setting", "address", "protection"), rows
        )
        section.add_table(
            "start-certificates", "Certificates as the sidecars name them", ("sidecar", "setting", "value"), facts
        )
        for row in rows:
            if row[3] == _IN_CLEAR:
                text = f"{row[1]} is on TCP and has no TLS settings"
                section.add_finding(Finding("NO_TLS", text, sidecar_id=str(row[0])))
        if not rows:
            section.add_open("Addresses and TLS settings: no start record can be read", "whoever operates the sidecars")


_IN_CLEAR = "none"


def _protection(settings: Mapping[str, str], name: str, address: str) -> str:
    if not address:
        return "not set"
    if address.startswith("unix:"):
        return "Unix socket: its file mode"
    prefix = f"{name.removesuffix('address')}tls."
    return "mutual TLS" if any(other.startswith(prefix) for other in settings) else _IN_CLEAR


def _differences(before: _Start | None, after: _Start) -> Iterator[tuple[str, str, str]]:
    if before is None:
        return
    for name in sorted(before.settings.keys() | after.settings.keys()):
        values = before.settings.get(name, ""), after.settings.get(name, "")
        if values[0] != values[1]:
            yield name, *values


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each leaf of a JSON value with its dotted name; `settings.` in front is left out."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flatten(f"{prefix}.{name}" if prefix and prefix != "settings" else str(name), part)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value):
            yield from _flatten(f"{prefix}.{number}", part)
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value))
    elif value is not None:
        yield prefix, str(value)
