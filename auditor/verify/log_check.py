"""The copied log, verified from its first entry to its newest signed checkpoint, and what it says about journals taken out of it."""

from dataclasses import dataclass, field
from typing import Final

from auditor.errors import MalformedLogCopy
from auditor.findings import Finding, Findings
from auditor.folder import AuditFolder
from auditor.log_copy import CopiedCheckpoint, CopiedEntry
from auditor.log_tree import LogTree
from auditor.progress import Progress
from auditor.verify.head_index import HeadIndex
from auditor.verify.reasons import Reason
from consent.authority import Authority
from consent.errors import ConsentError
from consent.event import (
    FIRST_INFORMATIVE_TYPE,
    DirectiveEvent,
    DisposalEvent,
    EnrolEvent,
    ErasedEvent,
    ErasureEvent,
    Event,
    FactEvent,
    JournalHeadsEvent,
    LinkEvent,
    OverrideEvent,
    RestrictionEvent,
    StateRootEvent,
    UnlinkEvent,
)
from consent.eventlog.acknowledgement import verify_possession
from consent.eventlog.checkpoint import Checkpoint, verify_checkpoint
from consent.eventlog.errors import EventLogError, InvalidJournalHead
from consent.eventlog.journal_head import JournalDisposal, JournalHead, verify_disposal, verify_head
from consent.eventlog.merkle import HASH_BYTES
from consent.policy import PolicyError
from consent.tenant_state import EMPTY_TENANT, TenantState, fold_tenant_event

_PROGRESS_ENTRIES: Final = 4_096

_TOKEN_EVENTS: Final = (
    DirectiveEvent,
    LinkEvent,
    UnlinkEvent,
    FactEvent,
    RestrictionEvent,
    OverrideEvent,
    ErasureEvent,
)


@dataclass(slots=True)
class LogFacts:
    """What the log says, for whoever checks the journals.

    Attributes:
        entries: How many were read.
        checkpoint: The newest signed one; None where none was accepted.
        time_ms: Unix ms of its cosignature, 0 without one.
        tenant: Policies, key epochs and sidecars at the end.
        enrolments: Each ENROL: sidecar, public key (32 bytes), seq, Unix ms.
        heads: How many heads of journals it holds.
    """

    entries: int = 0
    checkpoint: Checkpoint | None = None
    time_ms: int = 0
    tenant: TenantState = EMPTY_TENANT
    enrolments: list[tuple[str, bytes, int, int]] = field(default_factory=list)
    heads: int = 0

    def keys_of(self, sidecar_id: str) -> list[bytes]:
        """Every public key that a sidecar ever had, the newest first."""
        return [key for name, key, *_ in reversed(self.enrolments) if name == sidecar_id]


def verify_log(
    folder: AuditFolder, tree: LogTree, index: HeadIndex, findings: Findings, progress: Progress
) -> LogFacts:
    """Verify a copied log. Memory stays flat.

    Plan: 1. every entry, by itself and as the next leaf; 2. every checkpoint in the copy against the tree at its place; 3. at the end the
    newest one by its signatures, and payloads that nothing explains.

    Args:
        folder: With the copy.
        tree: Empty; holds the log's tree afterwards.
        index: Takes the heads and disposals.
        findings: Takes what is found.
        progress: Told how far it is, in bytes.

    Raises:
        FolderUnusable: The copy cannot be read.
    """
    check = _LogCheck(folder, tree, index, findings)
    total = folder.log.size_bytes
    try:
        for number, item in enumerate(folder.log.items()):
            if isinstance(item.content, CopiedEntry):
                check.take_entry(item.content)
            else:
                check.take_checkpoint(item.content)
            if number % _PROGRESS_ENTRIES == 0:
                progress("log", item.end, total)
    except MalformedLogCopy as error:
        findings.add(Finding(Reason.LOG_COPY_DAMAGED, f"log.copy: {error}", place="log.copy"))
    progress("log", total, total)
    check.finish()
    return check.facts


class _LogCheck:
    def __init__(self, folder: AuditFolder, tree: LogTree, index: HeadIndex, findings: Findings) -> None:
        self.facts = LogFacts()
        self._trust = folder.trust
        self._tree = tree
        self._index = index
        self._findings = findings
        self._authority = Authority(folder.trust)
        self._unexplained: set[int] = set()
        self._sealed_size = 0
        self._newest: CopiedCheckpoint | None = None
        self._is_tree_wrong = False

    def take_entry(self, entry: CopiedEntry) -> None:
        self.facts.entries = entry.seq
        try:
            self._tree.append(entry.leaf_hash())
        except EventLogError as error:
            self._add(Reason.ENTRY_UNREADABLE, entry.seq, str(error))
            self._tree.append(bytes(HASH_BYTES))
            self._is_tree_wrong = True
        try:
            self._judge(entry)
        except (ConsentError, PolicyError, EventLogError) as error:
            is_tenant = isinstance(error, PolicyError) or error.reason == "EVENT_OUT_OF_ORDER"
            reason = Reason.TENANT_REFUSED if is_tenant else Reason.EVENT_REFUSED
            self._add(reason, entry.seq, f"{error.reason}: {error}")

    def take_checkpoint(self, checkpoint: CopiedCheckpoint) -> None:
        """An older checkpoint may be signed by keys that the trust file has left out since; what it says of the tree must hold anyway."""
        self._newest = checkpoint
        try:
            verified = verify_checkpoint(checkpoint.note, self._trust, None)
        except EventLogError:
            self._sealed_size = self._tree.size
            return
        self.facts.checkpoint, self.facts.time_ms = verified.checkpoint, verified.time_ms
        self._compare(verified.checkpoint)
        self._sealed_size = self._tree.size

    def finish(self) -> None:
        if self._newest is None:
            self._findings.add(Finding(Reason.CHECKPOINT_MISSING, "the copy has no signed checkpoint: fetch it again"))
        else:
            try:
                verify_checkpoint(self._newest.note, self._trust, None)
            except EventLogError as error:
                text = f"the newest checkpoint is not to be believed: {error.reason}: {error}"
                self._findings.add(Finding(Reason.CHECKPOINT_REJECTED, text))
        if self._tree.size > self._sealed_size and self._newest is not None:
            text = f"entries {self._sealed_size + 1} to {self._tree.size} lie behind the newest checkpoint: fetch the log again"
            self._findings.add(Finding(Reason.ENTRIES_BEYOND_CHECKPOINT, text, place=f"seq {self._sealed_size + 1}"))
        for seq in sorted(self._unexplained):
            self._add(Reason.PAYLOAD_MISSING, seq, "has no payload, and no later ERASURE names it")

    def _compare(self, signed: Checkpoint) -> None:
        size = self._tree.size
        if signed.size > size:
            text = f"entries {size + 1} to {signed.size} are missing: the checkpoint is signed for them"
            self._findings.add(Finding(Reason.ENTRIES_MISSING, text, place=f"seq {size + 1}"))
        elif (signed.size < size or signed.root_hash != self._tree.root_hash()) and not self._is_tree_wrong:
            is_equal = self._tree.root_at(signed.size) == signed.root_hash
            if not is_equal:
                text = (
                    f"entries {min(self._sealed_size, signed.size - 1) + 1} to {signed.size} are not those that were signed:"
                    f" they do not hash to the root of the checkpoint for {signed.size} entries"
                )
                self._findings.add(Finding(Reason.ROOT_MISMATCH, text, place=f"seq {self._sealed_size + 1}"))
                self._is_tree_wrong = True
            elif signed.size < size:
                text = f"entries {signed.size + 1} to {size} stand before a checkpoint that is signed for {signed.size}"
                self._findings.add(Finding(Reason.ENTRIES_BEYOND_CHECKPOINT, text, place=f"seq {signed.size + 1}"))

    def _judge(self, entry: CopiedEntry) -> None:
        """Whether the entry may stand in this log at this place, and what it says. docs/verification.md has the same rules."""
        event = entry.read_event()
        if isinstance(event, ErasedEvent):
            self._unexplained.add(entry.seq)
            return
        if entry.type_byte != entry.event_bytes[1]:
            raise _OutOfPlace("its type is not that of its event")
        if entry.type_byte >= FIRST_INFORMATIVE_TYPE:
            self._take_statements(entry.seq, event)
            return
        if event.origin != self._trust.origin:
            raise _OutOfPlace("made for another log")
        self._authority.verify(event, entry.event_bytes, entry.attestations, entry.seq)
        if isinstance(event, ErasureEvent):
            self._unexplained.difference_update(seq for seq in event.seqs if seq < entry.seq)
        if isinstance(event, StateRootEvent) and event.size != entry.seq - 1:
            raise _OutOfPlace("a state root of another size than the log has before it")
        if isinstance(event, _TOKEN_EVENTS) and event.key_epoch >= len(self.facts.tenant.key_commitments):
            raise _OutOfPlace(f"tokens of key epoch {event.key_epoch}, which no entry before it has begun")
        if isinstance(event, EnrolEvent):
            verify_possession(event.sidecar_id, event.public_key, event.possession, self._trust.origin)
            self.facts.enrolments.append((event.sidecar_id, event.public_key, entry.seq, event.enrolled_at_ms))
        self.facts.tenant = fold_tenant_event(self.facts.tenant, event, entry.seq)

    def _take_statements(self, seq: int, event: Event) -> None:
        if isinstance(event, JournalHeadsEvent):
            for head in event.heads:
                self.facts.heads += 1
                if self._is_signed(seq, head):
                    self._index.add_logged(seq, event.received_at_ms, head)
        elif isinstance(event, DisposalEvent):
            for disposal in event.disposals:
                if self._is_signed(seq, disposal):
                    self._index.add_disposal(seq, disposal)

    def _is_signed(self, seq: int, statement: JournalHead | JournalDisposal) -> bool:
        """By the key that was enrolled for the sidecar when the feed logged it."""
        enrolled = self.facts.tenant.find_sidecar(statement.sidecar_id)
        try:
            if enrolled is None:
                raise InvalidJournalHead("the sidecar is not enrolled")
            if isinstance(statement, JournalHead):
                verify_head(statement, self._trust.origin, enrolled.public_key)
            else:
                verify_disposal(statement, self._trust.origin, enrolled.public_key)
        except EventLogError:
            text = (
                f"entry {seq}: a statement about a journal is not signed by the key that was enrolled for the sidecar"
            )
            found = Finding(Reason.HEAD_NOT_SIGNED, text, sidecar_id=statement.sidecar_id, place=f"seq {seq}")
            self._findings.add(found)
            return False
        return True

    def _add(self, reason: Reason, seq: int, text: str) -> None:
        self._findings.add(Finding(reason, f"entry {seq}: {text}", place=f"seq {seq}"))


class _OutOfPlace(ConsentError):
    """An event that no log, or not this one, could hold at its place."""

    reason = "EVENT_OUT_OF_PLACE"
