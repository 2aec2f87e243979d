"""What the log says that a reconciliation needs: heads, disposals, who was enrolled when, and whom the policy expects to ask."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from auditor.folder import AuditFolder
from auditor.reconcile.ledger import Ledger
from consent.errors import ConsentError
from consent.event import DisposalEvent, EnrolEvent, Event, EventType, JournalHeadsEvent, PolicyEvent, RetireEvent
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.policy import PolicyError, parse_policy

_TYPES = frozenset({EventType.POLICY, EventType.ENROL, EventType.RETIRE, EventType.JOURNAL_HEADS, EventType.DISPOSAL})


class Disposed(NamedTuple):
    """Segments of a chain that are gone by right.

    Attributes:
        until_segment: The first that is not.
        decisions: In all that are.
    """

    until_segment: int = 0
    decisions: int = 0


NOTHING_DISPOSED = Disposed()


@dataclass(slots=True)
class LogFacts:
    """What the log says; nothing of it is verified here, `verify` does that.

    Attributes:
        enrolled_ms: Unix ms at which each sidecar that is enrolled at the end of the log was enrolled first.
        retired_ms: Unix ms at which each other one was retired.
        disposed: By sidecar and chain.
        callers: Names that the policy in force lists.
        end_ms: Unix ms of the newest checkpoint; 0 without one.
    """

    enrolled_ms: dict[str, int] = field(default_factory=dict)
    retired_ms: dict[str, int] = field(default_factory=dict)
    disposed: dict[tuple[str, bytes], Disposed] = field(default_factory=dict)
    callers: frozenset[str] = frozenset()
    end_ms: int = 0


def read_log(folder: AuditFolder, ledger: Ledger) -> LogFacts:
    """Read the log's copy through, and put its heads into the ledger. An entry that cannot be read is passed over: `verify` names it.

    Raises:
        MalformedLogCopy, FolderUnusable: The copy cannot be read.
    """
    facts = LogFacts()
    try:
        facts.end_ms = verify_checkpoint(folder.log.checkpoint_note(), folder.trust, None).time_ms
    except EventLogError:
        facts.end_ms = 0
    for entry in folder.log.entries():
        if entry.type_byte in _TYPES and entry.event_bytes:
            with suppress(ConsentError):
                _take_event(facts, entry.read_event(), ledger)
    return facts


def _take_event(facts: LogFacts, event: Event, ledger: Ledger) -> None:
    match event:
        case JournalHeadsEvent():
            for head in event.heads:
                ledger.add_logged_head(head)
            facts.end_ms = max(facts.end_ms, event.received_at_ms)
        case DisposalEvent():
            _take_disposals(facts, event)
        case EnrolEvent():
            facts.enrolled_ms.setdefault(event.sidecar_id, event.enrolled_at_ms)
            facts.retired_ms.pop(event.sidecar_id, None)
        case RetireEvent():
            facts.enrolled_ms.pop(event.sidecar_id, None)
            facts.retired_ms[event.sidecar_id] = event.retired_at_ms
        case PolicyEvent():
            facts.callers = _read_callers(event, facts.callers)
        case _:
            pass


def _take_disposals(facts: LogFacts, event: DisposalEvent) -> None:
    for disposal in event.disposals:
        name = (disposal.sidecar_id, disposal.chain_id)
        before = facts.disposed.get(name, NOTHING_DISPOSED)
        if disposal.last_segment >= before.until_segment:
            decisions = before.decisions + disposal.decisions
            facts.disposed[name] = Disposed(disposal.last_segment + 1, decisions)


def _read_callers(event: PolicyEvent, before: frozenset[str]) -> frozenset[str]:
    try:
        return frozenset(parse_policy(event.document).callers)
    except PolicyError:
        return before
