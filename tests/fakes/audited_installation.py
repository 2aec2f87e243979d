"""A small installation as an auditor finds it: a log, two sidecars, a chain that ended well, one that crashed, and one that goes on."""

from pathlib import Path

from auditor.folder import AuditFolder
from auditor.journals import AuditorKey
from consent.decision_record import Situation, format_record, format_situation
from consent.eventlog.journal_head import HeadKind, JournalHead, format_head, hash_head, sign_head
from journal.format import FrameKind
from tests.fakes.audit_material import AUDITOR, JournalBuilder, enrol, log_heads, write_folder
from tests.fakes.journal_material import NOW_MS, make_call, split_segment
from tests.fakes.log_builder import LogBuilder

HEAD_MS = 10_000


class Installation:
    """Grows a log and journals that fit each other; nothing about it is wrong until a test makes it so.

    Args:
        folder: A new audit folder.

    Attributes:
        log: The log.
        ended: A chain of pod-1 with three segments, ended by its process.
        crashed: A chain of pod-1 that ends within a frame, with a recovery head in `current`.
        current: The chain that pod-1 writes now.
        other: The chain of pod-2.
        torn_frame: What the torn frame of `crashed` would have been.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.log = LogBuilder()
        self.log.append(self.log.next_epoch(), *(self.log.directive(f"person-{number}") for number in range(5)))
        enrol(self.log, "pod-1")
        enrol(self.log, "pod-2")
        self._number = 0
        self._at_ms = NOW_MS
        self.ended = self._ended_chain()
        self.crashed = self._crashed_chain()
        self.current = self._current_chain()
        self.other = JournalBuilder(folder, self.log.origin, "pod-2", "d")
        self.decide(self.other, 4)
        self.head(self.other)
        self.log.now_ms = self._at_ms + HEAD_MS

    @property
    def journals(self) -> list[JournalBuilder]:
        """Every chain."""
        return [self.ended, self.crashed, self.current, self.other]

    def covered_frames(self, chain: JournalBuilder, path: Path) -> int:
        """How many frames of a segment lie before the last logged head of its chain."""
        number = int(path.stem.rpartition("-")[2])
        heads = [head for head in (*chain.heads, self.recovery) if head.chain_id == chain.chain_id]
        last = max(heads, key=lambda head: head.number)
        return last.frame if last.segment == number else len(split_segment(path.read_bytes())[1])

    def record(self, items: int = 1) -> bytes:
        """The next decision record, decided on the log as it is."""
        log = self.log
        version = log.tenant_state.policy_version
        situation = Situation(log.origin, log.size, log.frontier.root_hash(), version, self._at_ms)
        call = make_call(self._number, items)
        self._number += items
        return format_record(call._replace(situation=format_situation(situation)))

    def decide(self, journal: JournalBuilder, frames: int, *, items: int = 1) -> None:
        """So many frames of one record each."""
        for _ in range(frames):
            journal.write([self.record(items)], items)

    def head(self, journal: JournalBuilder, kind: HeadKind = HeadKind.PERIODIC) -> JournalHead:
        """A head that is logged at once."""
        head = journal.head(kind, self.next_ms())
        log_heads(self.log, [head], self._at_ms)
        return head

    def next_ms(self) -> int:
        """The time of the next head."""
        self._at_ms += HEAD_MS
        return self._at_ms

    def write(self, key: AuditorKey | None = AUDITOR) -> AuditFolder:
        """The folder as it is now."""
        return write_folder(self.path, self.log, key)

    def _ended_chain(self) -> JournalBuilder:
        chain = JournalBuilder(self.path, self.log.origin, "pod-1", "a")
        self.head(chain)
        self.decide(chain, 3)
        self.head(chain)
        self.decide(chain, 2, items=3)
        self.head(chain, HeadKind.SEGMENT_END)
        chain.begin_segment()
        self.decide(chain, 2)
        chain.begin_segment()
        self.decide(chain, 3)
        self.head(chain)
        self.decide(chain, 1)
        self.head(chain, HeadKind.FINAL)
        return chain

    def _crashed_chain(self) -> JournalBuilder:
        chain = JournalBuilder(self.path, self.log.origin, "pod-1", "b")
        self.head(chain)
        self.decide(chain, 3)
        self.head(chain)
        self.decide(chain, 2)
        self.recovery = self._recover(chain)
        self.decide(chain, 1)
        content = chain.path.read_bytes()
        self.torn_frame = split_segment(content)[1][-1]
        chain.path.write_bytes(content[:-7])
        return chain

    def _recover(self, chain: JournalBuilder) -> JournalHead:
        """What the next process says about a chain; its frame lies in that process's own chain."""
        fields = {
            name: getattr(chain.heads[-1], name) for name in ("sidecar_id", "chain_id", "answered", "weakest_mode")
        }
        end = chain.end()
        recovered = JournalHead(
            **fields,
            number=len(chain.heads),
            kind=HeadKind.RECOVERY,
            at_ms=self.next_ms(),
            previous_head_hash=hash_head(chain.heads[-1]),
            torn_bytes=11,
            **end,
        )
        return sign_head(recovered, chain.key, self.log.origin)

    def _current_chain(self) -> JournalBuilder:
        chain = JournalBuilder(self.path, self.log.origin, "pod-1", "c")
        chain.write_frame(bytes((FrameKind.START,)) + b"{}")
        self.head(chain)
        chain.write_frame(bytes((FrameKind.HEAD,)) + format_head(self.recovery))
        log_heads(self.log, [self.recovery], self._at_ms)
        self.decide(chain, 2)
        self.head(chain)
        self.decide(chain, 2)
        return chain
