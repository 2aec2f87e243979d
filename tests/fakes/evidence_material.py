"""An audit folder with something for every section of the evidence: what tests of it, and a look at the report, are made of."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from auditor.evidence.masking import IdentifierFinder
from auditor.evidence.period import Period
from auditor.evidence.scope import Scope
from auditor.folder import AuditFolder
from consent.decision_record import format_record, format_situation
from consent.event import (
    AdminEvent,
    AlertEvent,
    DisposalEvent,
    ErasureEvent,
    PolicyEvent,
    ReceiptsEvent,
    ReceivedEvent,
    RejectedEvent,
    RetireEvent,
)
from consent.eventlog.acknowledgement import Receipt, sign_ack
from consent.eventlog.journal_head import (
    DisposalGround,
    HeadKind,
    JournalDisposal,
    JournalHead,
    format_head,
    sign_disposal,
)
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.vocabulary.directive import Kind
from journal.format import FrameKind
from tests.fakes.audit_material import JournalBuilder, enrol, log_heads, sidecar_key, write_folder
from tests.fakes.journal_material import SITUATION, make_call
from tests.fakes.log_builder import START_MS, LogBuilder, token_of

DAY_MS = 86_400_000
PERIOD = Period.parse("2026-01-01", "2026-01-31")
AUDITOR_SIGNING_KEY = generate_signing_key("auditor", KeyKind.AUDITOR, bytes(range(2, 34)))
SETTINGS: Mapping[str, object] = {
    "feed": {"address": "feed.example:7700", "tls": {"cert_file": "/etc/consentry/pod.pem"}},
    "journal": {"mode": "group", "on_unavailable": "deny"},
    "listeners": [
        {"address": "unix:///run/consentry.sock", "callers": [{"name": "mailer", "purposes": ["analytics"]}]}
    ],
}


class EvidenceLog:
    """A log with requests, a fleet and its acknowledgements, at times that a test says.

    Attributes:
        log: The log.
    """

    def __init__(self) -> None:
        self.log = LogBuilder()
        self._requests = 0

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.log.size

    def request(self, name: str, at_ms: int, **fields: object) -> int:
        """A request and its directive; returns the directive's seq."""
        self._requests += 1
        request_id = self._requests.to_bytes(16, "big")
        received = ReceivedEvent(origin=self.log.origin, request_id=request_id, received_at_ms=at_ms, request_type=1)
        self.log.append(received, self.log.directive(name, request_id=request_id, **fields))
        return self.log.size

    def record(self, number: int) -> bytes:
        """A decision record of a sidecar that holds the log as it is."""
        root_hash = self.log.frontier.root_hash()
        situation = replace(SITUATION, origin=self.log.origin, log_size=self.log.size, root_hash=root_hash)
        return format_record(make_call(number)._replace(situation=format_situation(situation)))

    def reject(self, source: str, at_ms: int, rejection: str = "CALLER_NOT_PERMITTED") -> None:
        """A refused request."""
        origin = self.log.origin
        self.log.append(RejectedEvent(origin=origin, source=source, rejected_at_ms=at_ms, rejection=rejection))

    def admin(self, action: str, at_ms: int, outcome: str = "OK", **fields: object) -> int:
        """A privileged call; returns its seq."""
        values: dict[str, object] = {"role": "ADMINISTRATOR", "actor": "administrator"} | fields
        event = AdminEvent(origin=self.log.origin, occurred_at_ms=at_ms, action=action, outcome=outcome, **values)  # type: ignore[arg-type]
        self.log.append(event)
        return self.log.size

    def enrol(self, sidecar_id: str, at_ms: int = START_MS) -> None:
        """A sidecar's key counts from here on."""
        now_ms, self.log.now_ms = self.log.now_ms, at_ms
        enrol(self.log, sidecar_id)
        self.log.now_ms = now_ms

    def retire(self, sidecar_id: str, at_ms: int) -> None:
        """It is gone."""
        self.log.append(RetireEvent(origin=self.log.origin, sidecar_id=sidecar_id, retired_at_ms=at_ms))

    def acknowledge(self, sidecar_id: str, at_ms: int, size: int | None = None) -> None:
        """A sidecar has everything up to a size in force since then."""
        size = self.log.size if size is None else size
        receipt = sign_ack(sidecar_key(sidecar_id), self.log.origin, size, bytes(32), at_ms)
        self.add_receipts(receipt)

    def add_receipts(self, *receipts: Receipt) -> None:
        """Log receipts as they are."""
        self.log.append(ReceiptsEvent(origin=self.log.origin, receipts=receipts))

    def alert(self, at_ms: int, *, is_over: bool = False, about: str = "pod-2") -> None:
        """An alert begins or is over."""
        fields = {"alert": "JOURNAL_SILENT", "about": about, "is_over": is_over}
        self.log.append(AlertEvent(origin=self.log.origin, raised_at_ms=at_ms, **fields))  # type: ignore[arg-type]

    def erase(self, name: str, at_ms: int) -> None:
        """A person is erased."""
        self.log.append(ErasureEvent(origin=self.log.origin, tokens=(token_of(name),), seqs=(), occurred_at_ms=at_ms))

    def dispose(self, sidecar_id: str, chain_id: bytes, at_ms: int) -> None:
        """Segments of a journal are gone."""
        disposal = JournalDisposal(
            sidecar_id=sidecar_id,
            chain_id=chain_id,
            first_segment=0,
            last_segment=3,
            chain_hash=bytes(32),
            decisions=400,
            oldest_ms=START_MS - 90 * DAY_MS,
            newest_ms=START_MS - 60 * DAY_MS,
            ground=DisposalGround.AGE,
            disposed_at_ms=at_ms,
        )
        signed = sign_disposal(disposal, sidecar_key(sidecar_id), self.log.origin)
        self.log.append(DisposalEvent(origin=self.log.origin, received_at_ms=at_ms, disposals=(signed,)))

    def publish_policy(self, document: bytes) -> None:
        """A policy that both approvers have signed."""
        version = self.log.tenant_state.policy_version
        event = PolicyEvent(
            origin=self.log.origin, source="office", version=version + 1, replaces_version=version, document=document
        )
        self.log.append(event)


def start_frame(version: str = "0.1.0", settings: Mapping[str, object] = SETTINGS, **fields: object) -> bytes:
    """The frame with which a process begins its chain."""
    note = {"format": 1, "version": version, "mode": "group", "on_unavailable": "deny", "settings": settings} | fields
    return bytes((FrameKind.START,)) + json.dumps(note).encode()


def build_folder(path: Path, days: int = 20) -> AuditFolder:
    """A folder with a bit of everything: two sidecars, opt-outs on every day, refusals, an alert, a crash, an erasure."""
    made = EvidenceLog()
    made.log.append(made.log.next_epoch())
    for name in ("pod-1", "pod-2"):
        made.enrol(name)
    number, journals = 0, list[JournalBuilder]()
    crashed: JournalBuilder | None = None
    for day in range(days):
        start = START_MS + day * DAY_MS
        for step in range(1 + day % 5):
            at_ms = start + step * 3_600_000
            kind = Kind.OBJECT if step == 2 else Kind.OPT_OUT
            made.request(f"person {day} {step}", at_ms, kind=int(kind))
            made.acknowledge("pod-1", at_ms + 400 + 90 * day)
            made.acknowledge("pod-2", at_ms + 1500 * (1 + day * step))
        made.admin("consentry.intake.v1.BackupService/BackUpLog", start + 7_200_000)
        if day % 3 == 0:
            made.admin(
                "consentry.intake.v1.PolicyService/PublishPolicy",
                start,
                "ROLE_NOT_PERMITTED",
                role="SOURCE",
                actor="shop",
            )
            made.reject("shop", start + 100)
        # Each day another process, which pod-2 once left without a final head.
        journals = [JournalBuilder(path, made.log.origin, name, f"day {day}") for name in ("pod-1", "pod-2")]
        for journal in journals:
            journal.write_frame(start_frame(f"0.1.{day // 7}"))
            if crashed is not None and (day, journal.sidecar_id) == (5, "pod-2"):
                log_heads(made.log, [_recover(crashed, journal, start + 9_000)], start + 9_200)
            count = 3 + day % 4 * 5
            journal.write([made.record(day * DAY_MS + number + index) for index in range(count)])
            number += count
            head_kind = HeadKind.FINAL
            if (day, journal.sidecar_id) == (4, "pod-2"):
                crashed, head_kind = journal, HeadKind.PERIODIC
            log_heads(made.log, [journal.head(at_ms=start + 10_000, kind=head_kind)], start + 10_350)
    made.admin(
        "consentry.feed.v1.AuditService/ReadLog", START_MS + days * DAY_MS, role="AUDITOR", actor="auditor.example"
    )
    made.alert(START_MS + 3 * DAY_MS)
    made.alert(START_MS + 3 * DAY_MS + 1_800_000, is_over=True)
    made.erase("person 1 1", START_MS + 5 * DAY_MS)
    made.dispose("pod-1", journals[0].chain_id, START_MS + 6 * DAY_MS)
    made.request("late", START_MS + days * DAY_MS)
    made.acknowledge("pod-1", START_MS + days * DAY_MS + 300)
    made.log.now_ms = START_MS + 31 * DAY_MS
    return write_folder(path, made.log)


def _recover(crashed: JournalBuilder, successor: JournalBuilder, at_ms: int) -> JournalHead:
    """A head about a chain that was left without a final one; it stands in the chain of the process that found it."""
    torn_bytes = 17
    end = crashed.path.stat().st_size + torn_bytes
    head = crashed.head(kind=HeadKind.RECOVERY, at_ms=at_ms, torn_bytes=torn_bytes)
    crashed.path.write_bytes(crashed.path.read_bytes()[:end])
    successor.write_frame(bytes((FrameKind.HEAD,)) + format_head(head))
    return head


def scope_of(folder: AuditFolder, **fields: object) -> Scope:
    """An export of January with a fixed seed and time."""
    values: dict[str, object] = {
        "trust": folder.trust,
        "period": PERIOD,
        "seed": "seed-1",
        "generated_at_ms": START_MS + 32 * DAY_MS,
        "exporter": "auditor",
        "finder": IdentifierFinder(),
    }
    return Scope(**(values | fields))  # type: ignore[arg-type]
