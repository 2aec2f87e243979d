"""`verify`: the log and every journal of an audit folder, held against each other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from auditor.errors import FolderUnusable
from auditor.findings import Finding, Findings, Severity
from auditor.folder import CHANGED_SUFFIX, AuditFolder
from auditor.journals import SidecarJournal
from auditor.log_copy import FILE_NAME
from auditor.log_tree import LogTree
from auditor.progress import Progress, no_progress
from auditor.verify.chain_check import ChainReport, verify_chain
from auditor.verify.head_course import ENDS, End, HeadCourse
from auditor.verify.head_index import HeadIndex, disposed_until
from auditor.verify.log_check import LogFacts, verify_log
from auditor.verify.reasons import Reason
from auditor.verify.record_check import RecordCheck
from consent.eventlog.errors import EventLogError
from consent.eventlog.journal_head import verify_head
from consent.tenant_state import EnrolledSidecar
from journal.format import SUFFIX, parse_segment_name

SILENT_SECONDS: Final = 300
"""How long a sidecar may make no head, by default: as long as a feed waits before it raises its alarm."""


@dataclass(slots=True)
class VerifyReport:
    """What was verified.

    Attributes:
        log: What the log says.
        sidecars: Names of those whose journal is in the folder.
        chains: How many chains.
        segments: How many segments.
        frames: How many frames.
        decisions: How many decisions.
        size_bytes: Of all segments.
        is_opened: Every record was read; else some were checked by their chain alone.
        findings: What was found.
    """

    log: LogFacts = field(default_factory=LogFacts)
    sidecars: list[str] = field(default_factory=list)
    chains: int = 0
    segments: int = 0
    frames: int = 0
    decisions: int = 0
    size_bytes: int = 0
    is_opened: bool = True
    findings: Findings = field(default_factory=Findings)


def verify_folder(
    folder: AuditFolder, *, silent_seconds: float = SILENT_SECONDS, progress: Progress = no_progress
) -> VerifyReport:
    """Verify a folder from its files and the public keys in its trust file alone. Memory stays flat.

    Plan: 1. the log, and what it says about journals; 2. every chain in the folder against that; 3. the heads themselves, chain by chain,
    and those of chains that the folder lacks; 4. heads in the journals that the log has otherwise or not at all; 5. records that stand
    twice.

    Args:
        folder: What to verify; where the auditor's key is missing, chains are verified and no record is read.
        silent_seconds: How long a sidecar may make no head.
        progress: Told how far it is, in bytes.

    Raises:
        FolderUnusable: A file cannot be read, so that nothing is said.
    """
    with LogTree() as tree, HeadIndex() as index, RecordCheck(folder.trust.origin, tree) as records:
        run = _Run(folder, index, records, round(silent_seconds * 1000), progress)
        run.report.log = verify_log(folder, tree, index, run.report.findings, progress)
        if (folder.path / (FILE_NAME + CHANGED_SUFFIX)).exists():
            text = "the feed's log was once shorter than the copy: it was rolled back, or is another one"
            run.report.findings.add(Finding(Reason.LOG_CHANGED, text, place=FILE_NAME + CHANGED_SUFFIX))
        run.verify_journals()
        run.verify_heads()
        run.verify_written_heads()
        run.report.findings.add(*records.find_duplicates())
    return run.report


class _Run:
    def __init__(
        self, folder: AuditFolder, index: HeadIndex, records: RecordCheck, silent_ms: int, progress: Progress
    ) -> None:
        self.report = VerifyReport()
        self._folder = folder
        self._index = index
        self._records = records
        self._silent_ms = silent_ms
        self._progress = progress
        self._walked: dict[tuple[str, bytes], ChainReport] = {}

    def verify_journals(self) -> None:
        journals = list(self._folder.journals())
        total = sum(sum(sizes.values()) for journal in journals for sizes in journal.chains().values())
        advance = _counting(self._progress, total)
        logged = set(self._index.chains())
        for journal in journals:
            self.report.sidecars.append(journal.sidecar_id)
            self._look_around(journal)
            for chain_id in sorted(journal.chains()):
                findings = self.report.findings
                walked = verify_chain(journal, chain_id, self._index, self._records, findings, advance)
                self._walked[journal.sidecar_id, chain_id] = walked
                self._count(walked)
                if (journal.sidecar_id, chain_id) not in logged:
                    self._report_unlogged(journal.sidecar_id, chain_id, walked)
        self._progress("journals", total, total)

    def verify_heads(self) -> None:
        end = self._end()
        missing: set[str] = set()
        last_ms: dict[str, int] = {}
        for sidecar_id, chain_id in self._index.chains():
            walked = self._walked.get((sidecar_id, chain_id))
            is_opened = walked is not None and walked.is_opened
            course = HeadCourse(sidecar_id, chain_id, self._index, self._silent_ms, is_opened, end)
            self.report.findings.add(*course.findings())
            if course.last is not None:
                # One that was not ended, the course itself judges.
                last = course.last.received_at_ms if course.last.head.kind in ENDS else end.time_ms
                last_ms[sidecar_id] = max(last, last_ms.get(sidecar_id, 0))
            if walked is not None:
                continue
            if sidecar_id not in self.report.sidecars:
                missing.add(sidecar_id)
            elif course.last is not None:
                self._report_missing(sidecar_id, chain_id, course.last.head.segment)
        for sidecar_id in sorted(missing):
            text = "the log has heads of its journal, and the folder has no journal of it"
            self._find(Reason.JOURNAL_MISSING, text, sidecar_id)
        for sidecar in self.report.log.tenant.sidecars:
            self._report_silent(sidecar, last_ms.get(sidecar.sidecar_id), end)

    def verify_written_heads(self) -> None:
        for place, head, logged in self._index.written_unlike_logged():
            if logged is not None:
                text = f"{place}: is not head {head.number} as the log has it"
                self._find(Reason.HEAD_DIFFERS, text, head.sidecar_id, place)
                continue
            for key in self.report.log.keys_of(head.sidecar_id):
                try:
                    verify_head(head, self._folder.trust.origin, key)
                    break
                except EventLogError:
                    continue
            else:
                if self.report.log.keys_of(head.sidecar_id):
                    text = f"{place}: the head there is not signed by a key that was ever enrolled for the sidecar"
                    self._find(Reason.HEAD_NOT_SIGNED, text, head.sidecar_id, place)

    def _look_around(self, journal: SidecarJournal) -> None:
        try:
            names = sorted(path.name for path in journal.directory.iterdir())
        except OSError as error:
            raise FolderUnusable(f"{journal.directory}: {error.strerror}") from None
        for name in names:
            if name.endswith(SUFFIX + CHANGED_SUFFIX):
                text = f"{name}: what the sidecar gave later differs from what it had given before"
                self._find(Reason.SEGMENT_CHANGED, text, journal.sidecar_id, name)
            elif name.endswith(SUFFIX) and parse_segment_name(name) is None:
                text = f"{name}: a journal has no file of that name"
                self._find(Reason.STRAY_FILE, text, journal.sidecar_id, name)

    def _report_unlogged(self, sidecar_id: str, chain_id: bytes, walked: ChainReport) -> None:
        """A chain that the log does not know: one that has just begun, or that somebody keeps from the feed."""
        facts = self.report.log
        text = f"chain {chain_id.hex()}: {walked.decisions} decisions, and no head of it is in the log"
        enrolled = facts.tenant.find_sidecar(sidecar_id)
        since_ms = max((at_ms for name, _, _, at_ms in facts.enrolments if name == sidecar_id), default=0)
        is_late = enrolled is not None and facts.time_ms - max(walked.created_ms, since_ms) > self._silent_ms
        if is_late:
            self._find(Reason.CHAIN_UNLOGGED, text, sidecar_id)
        else:
            self.report.findings.add(Finding(Reason.CHAIN_UNLOGGED, text, Severity.NOTE, sidecar_id))

    def _report_missing(self, sidecar_id: str, chain_id: bytes, last_segment: int) -> None:
        gone = disposed_until(self._index.disposals(sidecar_id, chain_id))
        if gone > last_segment:
            text = f"chain {chain_id.hex()}: disposed of as a whole, as the log says"
            self.report.findings.add(Finding(Reason.DISPOSED, text, Severity.NOTE, sidecar_id))
        else:
            text = f"chain {chain_id.hex()}: the log has heads of it, and the folder has no segment of it"
            self._find(Reason.CHAIN_MISSING, text, sidecar_id)

    def _report_silent(self, sidecar: EnrolledSidecar, last_ms: int | None, end: End) -> None:
        """A sidecar that is enrolled, and whose chains, if it has any, were all ended in order."""
        place = f"seq {sidecar.enrolled_seq}"
        if last_ms is None:
            _, _, _, since_ms = next(
                each for each in reversed(self.report.log.enrolments) if each[0] == sidecar.sidecar_id
            )
            if end.time_ms - since_ms > self._silent_ms:
                text = f"enrolled by entry {sidecar.enrolled_seq}, and the log has no head of its journal"
                self._find(Reason.NO_HEADS, text, sidecar.sidecar_id, place)
        elif end.time_ms - last_ms > self._silent_ms:
            seconds = (end.time_ms - last_ms) // 1000
            text = f"enrolled, and not running since it ended its last chain {seconds} s before the newest checkpoint"
            self.report.findings.add(Finding(Reason.HEADS_STOPPED, text, Severity.NOTE, sidecar.sidecar_id, place))

    def _end(self) -> End:
        facts = self.report.log
        return End(facts.time_ms, frozenset(sidecar.sidecar_id for sidecar in facts.tenant.sidecars))

    def _count(self, walked: ChainReport) -> None:
        report = self.report
        report.chains += 1
        report.segments += walked.segments
        report.frames += walked.frames
        report.decisions += walked.decisions
        report.size_bytes += walked.size_bytes
        report.is_opened = report.is_opened and walked.is_opened

    def _find(self, reason: Reason, text: str, sidecar_id: str, place: str = "") -> None:
        self.report.findings.add(Finding(reason, text, sidecar_id=sidecar_id, place=place))


def _counting(progress: Progress, total: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress("journals", done, total)

    return advance
