"""5.3: who approved what governs everybody, and whether one party holds roles that two must share."""

from collections import defaultdict

from auditor.evidence.events import Collector, EntrySeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import format_time
from auditor.evidence.scope import Scope
from auditor.findings import Finding
from consent.authority import Authority, NotAuthorised
from consent.event import AdminEvent, OverrideEvent, PolicyEvent

SLUG = "5.3"


class DutiesCollector(Collector):
    """Judges approvals again by the trust file, and looks for actors with several roles.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._authority = Authority(scope.trust)
        self._approver_names = {key.verifier_key.name for key in scope.trust.approver_keys}
        self._approved: list[tuple[Cell, ...]] = []
        self._sample = scope.sample("approved changes", tuple[Cell, ...])
        self._roles: dict[str, set[str]] = defaultdict(set)
        self._findings: list[Finding] = []

    def see_entry(self, seen: EntrySeen) -> None:
        """Approvals of policies and overrides, and roles of actors, within the period."""
        if not seen.is_in_period:
            return
        if isinstance(seen.event, PolicyEvent | OverrideEvent):
            self._judge(seen, seen.event)
        elif isinstance(seen.event, AdminEvent) and seen.event.outcome == "OK":
            self._roles[seen.event.actor].add(seen.event.role)

    def write(self, report: Report) -> None:
        """Approvals, violations, and the parties of the trust file."""
        section, trust = report[SLUG], self._scope.trust
        section.add_source(f"event log: {self._sample.size} policies and overrides in the period, all of them judged")
        section.add_source("trust file: approvers and the number of them that must sign")
        section.add_figure("approvers in the trust file", len(self._approver_names))
        section.add_figure("approvers that must sign", trust.approver_threshold)
        section.add_table(
            "approvals",
            f"Policies and overrides with their approvers ({self._sample.describe()}, drawn by the seed)",
            ("seq", "about", "type", "version or purpose", "sent by", "approvers", "judgement"),
            sorted(self._sample.drawn(), key=lambda row: int(row[0] or 0)),
        )
        self._write_roles(report)
        for finding in self._findings:
            section.add_finding(finding)

    def _judge(self, seen: EntrySeen, event: PolicyEvent | OverrideEvent) -> None:
        signers = {item.key_name for item in seen.attestations} & self._approver_names
        judgement = "enough approvers"
        try:
            self._authority.verify(event, seen.event_bytes, seen.attestations, seen.seq)
        except NotAuthorised as error:
            judgement = error.reason
            text = "what governs everybody was logged without the approvals that the trust file demands"
            self._findings.append(Finding(error.reason, text, place=f"seq {seen.seq}"))
        if event.source in signers:
            text = "the party that sent a change is also one of its approvers"
            self._findings.append(Finding("SENDER_APPROVED", text, place=f"seq {seen.seq}"))
        about = f"version {event.version}" if isinstance(event, PolicyEvent) else event.purpose
        names = ", ".join(sorted(signers))
        row = (seen.seq, format_time(seen.logged_at_ms), seen.type_name, about, event.source, names, judgement)
        self._sample.add(str(seen.seq), row)

    def _write_roles(self, report: Report) -> None:
        section = report[SLUG]
        rows = [(actor, ", ".join(sorted(roles))) for actor, roles in sorted(self._roles.items())]
        section.add_table("roles", "Roles that each actor used successfully", ("actor", "roles"), rows)
        for actor, roles in sorted(self._roles.items()):
            if len(roles) > 1:
                text = f"{actor} used the roles {', '.join(sorted(roles))}, which different parties must hold"
                section.add_finding(Finding("DUTIES_NOT_SEPARATED", text))
            if actor in self._approver_names and "administrator" in {role.lower() for role in roles}:
                section.add_finding(
                    Finding("DUTIES_NOT_SEPARATED", f"{actor} approves changes and administers the feed")
                )
        names = {key.verifier_key.name for key in self._scope.trust.source_keys}
        for name in sorted(names & self._approver_names):
            section.add_finding(
                Finding("DUTIES_NOT_SEPARATED", f"{name} is a source and an approver in the trust file")
            )
        if self._scope.exporter in self._approver_names:
            text = "the auditor that made this evidence is an approver in the trust file"
            section.add_finding(Finding("DUTIES_NOT_SEPARATED", text))
