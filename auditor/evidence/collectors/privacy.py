"""5.34, 8.11: what personal data lies where, and what of the opened content looks like an identifier in clear."""

from collections import Counter

from auditor.evidence.events import CallSeen, Collector, EntrySeen, NoteSeen
from auditor.evidence.model import Report
from auditor.evidence.scope import Scope
from auditor.findings import Finding

SLUG = "5.34_8.11"
_MAX_PLACES = 50
#: From docs/threat-model.md, docs/decision-record.md and docs/subjects.md.
INVENTORY = (
    ("feed, event log", "pseudonyms (tokens) under the subject key; purposes; times; links", "sealed; identifiers are never stored"),
    ("feed, memory at intake", "identifiers as they come in", "not stored"),
    ("feed, archive and backups", "as the event log", "sealed"),
    ("sidecar, cache", "pseudonyms (tokens), folded choices", "sealed with AES-256-GCM"),
    ("sidecar, journal", "audit pseudonyms under a key of the day; purposes; answers", "sealed with AES-256-GCM"),
    ("spans at the collector", "audit pseudonyms of the day; purposes; answers", "in clear at the collector; no identifier, no token"),
    ("metrics", "none: no identifier and no pseudonym in a label", "in clear"),
    ("logs of the programs", "none", "in clear"),
    ("receipts of requesters", "the token of the requester", "held by the requester"),
    ("audit folder", "pseudonyms in the copy of the log (in clear), journals (sealed), replay keys (sealed to the auditor)", "mode 0700"),
    ("evidence folder", "none: no pseudonym, no token; entries by number only", "in clear"),
)  # fmt: skip


class PrivacyCollector(Collector):
    """Searches everything that was opened for identifiers in clear.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._found: Counter[tuple[str, str]] = Counter()
        self._searched: Counter[str] = Counter()

    def see_entry(self, seen: EntrySeen) -> None:
        """The bytes of an event: hashes and signatures are noise, texts are not."""
        self._search("entries of the log", f"log, seq {seen.seq}", seen.event_bytes)

    def see_call(self, seen: CallSeen) -> None:
        """The bytes of a record."""
        segment = seen.segment
        place = f"journal, {segment.chain_id.hex()}-{segment.number}/{seen.frame}/{seen.place}"
        self._search("decision records", place, seen.record)

    def see_note(self, seen: NoteSeen) -> None:
        """The bytes of another frame."""
        segment = seen.segment
        place = f"journal, {segment.chain_id.hex()}-{segment.number}/{seen.frame}"
        self._search("other frames of journals", place, seen.content)

    def write(self, report: Report) -> None:
        """Inventory and search."""
        section = report[SLUG]
        section.add_source("inventory: as this program is built (docs/threat-model.md, docs/decision-record.md)")
        section.add_source(
            "search: addresses and telephone numbers by their form, and every value of --known-identifiers"
        )
        section.add_table("inventory", "Personal data by place", ("place", "what", "form"), INVENTORY)
        section.add_figure("known identifiers searched for", self._scope.finder.known_count)
        for what in ("entries of the log", "decision records", "other frames of journals"):
            section.add_figure(f"{what} searched", self._searched[what])
        rows = [(place, kind, count) for (place, kind), count in sorted(self._found.items())[:_MAX_PLACES]]
        section.add_table("found-in-content", "Found in opened content", ("place", "what", "times"), rows)
        for place, kind, _ in rows:
            section.add_finding(Finding("IDENTIFIER_IN_CLEAR", f"{kind} in clear", place=place))

    def _search(self, what: str, place: str, content: bytes) -> None:
        self._searched[what] += 1
        for match in self._scope.finder.find(content, is_noise=True):
            if len(self._found) < 10 * _MAX_PLACES:
                self._found[place, match.kind] += 1
