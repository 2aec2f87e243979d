"""The heads of one chain in the log, one after the other: none missing, none twice, and none late."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from auditor.findings import Finding, Severity
from auditor.verify.head_index import HeadIndex, LoggedHead
from auditor.verify.reasons import Reason
from consent.eventlog.journal_head import NO_HEAD, HeadKind, JournalHead, hash_head

ENDS: Final = frozenset({HeadKind.FINAL, HeadKind.RECOVERY})
"""Kinds of heads behind which a chain has no more."""


class End(NamedTuple):
    """What is known where the log ends.

    Attributes:
        time_ms: Unix ms of its newest checkpoint.
        enrolled: Names of the sidecars that are enrolled then.
    """

    time_ms: int
    enrolled: frozenset[str]


@dataclass(slots=True)
class HeadCourse:
    """Follows the heads of one chain.

    Attributes:
        sidecar_id: Whose it is.
        chain_id: 16 bytes.
        index: Heads of the log and of the journals.
        silent_ms: Longest time between two heads.
        is_opened: Every frame of the chain was read, so that a head that is not among them is nowhere.
        end: The log's.
        last: The last head seen.
    """

    sidecar_id: str
    chain_id: bytes
    index: HeadIndex
    silent_ms: int
    is_opened: bool
    end: End
    last: LoggedHead | None = field(default=None, init=False)

    def findings(self) -> Iterator[Finding]:
        """What is not as it must be, in order."""
        for logged in self.index.logged(self.sidecar_id, self.chain_id):
            if self.last is not None and logged.head.number == self.last.head.number:
                if logged.head != self.last.head:
                    text = "there are two heads of one number: the journal was rolled back or copied"
                    yield self._find(Reason.HEAD_FORKED, logged, text)
                continue
            yield from self._follow(logged)
            if logged.head.kind == HeadKind.RECOVERY:
                yield self._crash(logged.head)
            self.last = logged
        yield from self._end()

    def _follow(self, logged: LoggedHead) -> Iterator[Finding]:
        before, head = self.last, logged.head
        expected = before.head.number + 1 if before else 0
        if head.number > expected:
            yield from self._bridge(logged, expected)
        elif head.previous_head_hash != (hash_head(before.head) if before else NO_HEAD):
            yield self._find(Reason.HEAD_CHAIN_BROKEN, logged, "it does not name the head before it")
        if before is None:
            return
        if _counts(head) < _counts(before.head) or head.decisions < before.head.decisions:
            yield self._find(Reason.HEAD_GOES_BACK, logged, "it says less than the head before it")
        if before.head.kind in ENDS:
            yield self._find(Reason.HEADS_AFTER_END, logged, "it comes after the head that ended the chain")
        elif head.number == expected and head.at_ms - before.head.at_ms > self.silent_ms:
            seconds = (head.at_ms - before.head.at_ms) // 1000
            # A crash explains a silence: what was decided until then is in the journal, up to where the recovery head says.
            if head.kind != HeadKind.RECOVERY:
                yield self._find(Reason.HEADS_SILENT, logged, f"no head was made in the {seconds} s before it")

    def _bridge(self, logged: LoggedHead, first: int) -> Iterator[Finding]:
        """Heads that the log does not have: a sidecar passes over some after a long outage, and has them all in its journal."""
        head, due = logged.head, first
        previous = hash_head(self.last.head) if self.last else NO_HEAD
        for written in self.index.written_between(self.sidecar_id, self.chain_id, first, head.number - 1):
            if written.number == due and written.previous_head_hash == previous:
                due, previous = due + 1, hash_head(written)
        is_bridged = due == head.number and head.previous_head_hash == previous
        text = f"heads {first} to {head.number - 1} are not in the log"
        if is_bridged:
            yield self._note(Reason.HEAD_GAP, logged, f"{text}; the journal has them")
        elif self.is_opened:
            yield self._find(Reason.HEAD_GAP, logged, f"{text}, nor in the journal")
        else:
            yield self._note(Reason.HEAD_GAP, logged, f"{text}; this one covers the records before it too")

    def _end(self) -> Iterator[Finding]:
        if self.last is None or self.last.head.kind in ENDS:
            return
        silent_ms = self.end.time_ms - max(self.last.received_at_ms, self.last.head.at_ms)
        if silent_ms <= self.silent_ms:
            return
        text = (
            f"it is the last one of its chain, which was not ended, {silent_ms // 1000} s before the newest checkpoint"
        )
        if self.sidecar_id in self.end.enrolled:
            yield self._find(Reason.HEADS_STOPPED, self.last, text)
        else:
            yield self._note(Reason.HEADS_STOPPED, self.last, f"{text}; the sidecar is not enrolled any more")

    def _crash(self, head: JournalHead) -> Finding:
        text = (
            f"chain {self.chain_id.hex()}: its process ended without closing it; {head.decisions} decisions were found,"
            f" and {head.torn_bytes} bytes of an unfinished frame"
        )
        return Finding(Reason.CRASHED, text, Severity.NOTE, self.sidecar_id)

    def _find(self, reason: Reason, logged: LoggedHead, text: str) -> Finding:
        where = f"head {logged.head.number} of chain {self.chain_id.hex()}, which entry {logged.seq} holds"
        return Finding(reason, f"{where}: {text}", sidecar_id=self.sidecar_id, place=f"seq {logged.seq}")

    def _note(self, reason: Reason, logged: LoggedHead, text: str) -> Finding:
        return self._find(reason, logged, text)._replace(severity=Severity.NOTE)


def _counts(head: JournalHead) -> tuple[int, int]:
    return head.segment, head.frame
