"""Decision records as rows, one for each decision. docs/reconcile.md lists the fields from here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from auditor.errors import SegmentKeyMissing
from auditor.folder import AuditFolder
from auditor.journals import SidecarJournal
from auditor.progress import Progress, no_progress
from consent.decision_record import (
    NO_AGE,
    CallRecord,
    Item,
    MalformedRecord,
    item_id,
    parse_question,
    parse_record,
    parse_situation,
)
from journal.errors import CorruptSegment
from journal.format import FrameKind
from journal.reader import FrameAt

Row = dict[str, Any]

FIELDS: Final = {
    "decision_id": "UUID of the decision",
    "call_id": "UUID of the call; several decisions of a batch share it",
    "sidecar_id": "who answered",
    "decided_at_ms": "Unix ms of the decision",
    "caller": "who asked, by its certificate or listener",
    "is_caller_permitted": "whether it may ask for these purposes",
    "purposes": "as asked; `(unknown)` for a name that the policy did not know",
    "jurisdictions": "as asked",
    "age_band": "as asked, the number in the protocol",
    "sec_gpc": "whether the request bore the Global Privacy Control signal",
    "data_categories": "as asked",
    "min_seq": "consistency demanded, 0 for none",
    "is_well_formed": "whether identifiers and values were understood",
    "effect": "`ALLOW` or `DENY`",
    "reason": "why",
    "valid_until_ms": "Unix ms until which the answer might be reused, 0 for a denial",
    "log_origin": "name of the log, empty before the first snapshot",
    "log_size": "entries of the log in force",
    "root_hash": "root of the log at that size, hexadecimal",
    "policy_version": "in force, 0 for none",
    "checkpoint_time_ms": "Unix ms of the newest checkpoint, none before the first snapshot",
    "age_ms": "its age then, none before the first snapshot",
    "is_intact": "whether the cache had passed its checks",
    "latency_us": "from the request's arrival to the record",
    "trace_id": "W3C trace, hexadecimal",
    "parent_span_id": "the caller's span, zeros without one",
    "span_id": "of the call's own span",
    "place": "chain, segment, frame and record in the journal",
}
"""Name and meaning of every field."""

MARKS: Final = {
    "deciding_seq": "seq of the entry that decided, 0 for none",
    "recipient": "as asked: the name of a recipient, which a caller chose",
    "pseudonyms": "audit pseudonyms of the identifiers, hexadecimal",
}
"""Fields that can mark a person, or hold what a caller put there; only on demand."""

_read_situation = lru_cache(maxsize=1024)(parse_situation)
_read_question = lru_cache(maxsize=1024)(parse_question)


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions are wanted; an empty set lets everything through.

    Attributes:
        from_ms: Unix ms of the first one, None for no limit.
        to_ms: Unix ms behind the last one, None for no limit.
        sidecars: Names.
        callers: Names.
        purposes: One of a decision's purposes must be among them.
        effects: `ALLOW`, `DENY`.
        reasons: Stable names.
        decision_ids: 16 bytes each.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    sidecars: frozenset[str] = frozenset()
    callers: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    effects: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    decision_ids: frozenset[bytes] = frozenset()

    def wants_call(self, call: CallRecord) -> bool:
        """Whether decisions of this call may be wanted."""
        if self.from_ms is not None and call.now_ms < self.from_ms:
            return False
        if self.to_ms is not None and call.now_ms >= self.to_ms:
            return False
        question = _read_question(call.question)
        if self.callers and question.caller not in self.callers:
            return False
        return not self.purposes or not self.purposes.isdisjoint(question.purposes)

    def wants_item(self, call: CallRecord, index: int, item: Item) -> bool:
        """Whether this decision of a call that may be wanted is."""
        if self.effects and item.effect.value not in self.effects:
            return False
        if self.reasons and item.reason.value not in self.reasons:
            return False
        return not self.decision_ids or item_id(call.call_id, index) in self.decision_ids


EVERYTHING: Final = DecisionFilter()


class Unread(NamedTuple):
    """A chain of which not everything could be read.

    Attributes:
        sidecar_id: Whose.
        text: What is wrong; names no person.
    """

    sidecar_id: str
    text: str


@dataclass(slots=True)
class DecisionExport:
    """Goes through all journals of a folder. Memory stays flat.

    Attributes:
        folder: With the journals.
        wanted: Which decisions.
        with_marks: Add the fields that can mark a person.
        progress: Told how far it is, in bytes.
        count: Rows so far.
        unread: What could not be read; everything else has been yielded.
    """

    folder: AuditFolder
    wanted: DecisionFilter = EVERYTHING
    with_marks: bool = False
    progress: Progress = no_progress
    count: int = field(default=0, init=False)
    unread: list[Unread] = field(default_factory=list, init=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of each row, in order."""
        return (*FIELDS, *(MARKS if self.with_marks else ()))

    def rows(self) -> Iterator[Row]:
        """Every decision that is wanted, sidecar by sidecar, in the order of its journal.

        Raises:
            FolderUnusable: A folder cannot be read.
        """
        wanted = self.wanted.sidecars
        journals = [journal for journal in self.folder.journals() if not wanted or journal.sidecar_id in wanted]
        total = sum(sum(sizes.values()) for journal in journals for sizes in journal.chains().values())
        on_bytes = _counting(self.progress, total)
        for journal in journals:
            for chain_id in sorted(journal.chains()):
                try:
                    yield from self._rows_of_chain(journal, chain_id, on_bytes)
                except (SegmentKeyMissing, CorruptSegment, MalformedRecord, OSError) as error:
                    self.unread.append(Unread(journal.sidecar_id, f"chain {chain_id.hex()}: {error}"))

    def _rows_of_chain(
        self, journal: SidecarJournal, chain_id: bytes, on_bytes: Callable[[int], None]
    ) -> Iterator[Row]:
        for number in sorted(journal.chains().get(chain_id, {})):
            for frame in journal.frames((chain_id, number)):
                on_bytes(frame.end - frame.offset)
                for place, record in enumerate(frame.records if frame.kind == FrameKind.RECORDS else ()):
                    call = parse_record(record)
                    if self.wanted.wants_call(call):
                        yield from self._rows_of_call(journal.sidecar_id, frame, place, call)

    def _rows_of_call(self, sidecar_id: str, frame: FrameAt, place: int, call: CallRecord) -> Iterator[Row]:
        shared: Row | None = None
        for index, item in enumerate(call.items):
            if self.wanted.wants_item(call, index, item):
                shared = shared or _describe_call(sidecar_id, frame, place, call)
                self.count += 1
                yield self._describe_item(call, index, item, shared)

    def _describe_item(self, call: CallRecord, index: int, item: Item, shared: Row) -> Row:
        row = shared | {
            "decision_id": _format_id(item_id(call.call_id, index)),
            "is_well_formed": item.is_well_formed,
            "effect": item.effect.value,
            "reason": item.reason.value,
            "valid_until_ms": item.valid_until_ms,
        }
        if self.with_marks:
            row["deciding_seq"] = item.deciding_seq
            row["recipient"] = _read_question(call.question).recipient
            row["pseudonyms"] = [pseudonym.hex() for pseudonym in item.pseudonyms]
        return {name: row[name] for name in self.columns}


def _describe_call(sidecar_id: str, frame: FrameAt, place: int, call: CallRecord) -> Row:
    situation, question = _read_situation(call.situation), _read_question(call.question)
    return {
        "call_id": _format_id(call.call_id),
        "sidecar_id": sidecar_id,
        "decided_at_ms": call.now_ms,
        "caller": question.caller,
        "is_caller_permitted": question.is_caller_permitted,
        "purposes": list(question.purposes),
        "jurisdictions": list(question.jurisdictions),
        "age_band": question.age_band,
        "sec_gpc": question.sec_gpc,
        "data_categories": list(question.data_categories),
        "min_seq": question.min_seq,
        "log_origin": situation.origin,
        "log_size": situation.log_size,
        "root_hash": situation.root_hash.hex(),
        "policy_version": situation.policy_version,
        "checkpoint_time_ms": situation.checkpoint_time_ms,
        "age_ms": None if call.age_ms == NO_AGE else call.age_ms,
        "is_intact": situation.is_intact,
        "latency_us": call.latency_us,
        "trace_id": call.trace_id.hex(),
        "parent_span_id": call.parent_span_id.hex(),
        "span_id": call.span_id.hex(),
        "place": f"{frame.chain_id.hex()}/{frame.segment}/{frame.frame}/{place}",
    }


def format_field_table() -> str:
    """The fields as a Markdown table."""
    rows = ["| field | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]
    rows += [f"| `{name}` | {meaning}; only with `--with-pseudonyms` |" for name, meaning in MARKS.items()]
    return "\n".join(rows) + "\n"


def _counting(progress: Progress, total: int) -> Callable[[int], None]:
    done = told = 0

    def add(size_bytes: int) -> None:
        nonlocal done, told
        done += size_bytes
        if done - told >= total // 200:
            told = done
            progress("journals", min(done, total), total)

    return add


def _format_id(decision_id: bytes) -> str:
    return str(UUID(bytes=decision_id))
