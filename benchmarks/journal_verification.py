"""How long `consentry-auditor verify` takes for a journal of a million records, and how much memory it needs."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from auditor.keys import KEY_USE
from consent.decision_record import Situation, format_record, format_situation
from consent.eventlog.journal_head import HeadKind
from hosting.key_files import create_key_file
from tests.fakes.audit_material import AUDITOR, JournalBuilder, enrol, log_heads, write_folder
from tests.fakes.journal_material import NOW_MS, make_call
from tests.fakes.log_builder import LogBuilder

RECORDS: Final = 1_000_000
BUDGET_SECONDS: Final = 60.0
BUDGET_MEBIBYTES: Final = 200.0

_SEGMENT_BYTES: Final = 64 << 20
_RECORDS_PER_HEAD: Final = 5_000
_HEAD_MS: Final = 10_000
_BUFFER_BYTES: Final = 4 << 20


class _BulkBuilder(JournalBuilder):
    """Writes many frames at once, and ends segments where a sidecar does."""

    def begin_segment(self) -> None:
        self._waiting = bytearray()
        super().begin_segment()
        self._room = _SEGMENT_BYTES

    def write_frame(self, plaintext: bytes, decisions: int = 0) -> None:
        frame_bytes = self._chain.seal(plaintext, decisions)
        self._chain.advance(frame_bytes)
        self._last_hash = self._chain.chain_hash
        self._waiting += frame_bytes
        self._room -= len(frame_bytes)
        if len(self._waiting) > _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put what waits into the file."""
        with self.path.open("ab") as file:
            file.write(self._waiting)
        self._waiting.clear()
        if self._room <= 0:
            self.begin_segment()


def measure(records: int = RECORDS) -> dict[str, Any]:
    """Verify one journal with a record in each frame, as single checks write them, and one with a hundred, as mode `async` does.

    Returns:
        By shape: records, seconds by the clock and of processor time, peak of resident memory in MiB, size of the journal in bytes.
    """
    return {shape: _measure(records, per_frame) for shape, per_frame in (("single", 1), ("hundreds", 100))}


def _measure(records: int, per_frame: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="csty-audit-") as name:
        folder = Path(name)
        _build(folder / "audit", records, per_frame)
        key = folder / "auditor.key"
        create_key_file(key, AUDITOR.private_key.private_bytes_raw() + bytes(32), use=KEY_USE)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        options: list[str | Path] = ["-f", folder / "audit", "-k", key, "--json"]
        command = [sys.executable, "-m", "auditor", "verify", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    verified = json.loads(done.stdout)
    if verified["decisions"] != records or not verified["records_read"]:
        raise RuntimeError("not every record was read")
    return {
        "records": records,
        "seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "mebibytes": after.ru_maxrss / 1024,
        "journal_bytes": verified["journal_bytes"],
    }


def _build(folder: Path, records: int, per_frame: int) -> None:
    log = LogBuilder()
    log.append(log.next_epoch(), *(log.directive(f"person-{number}") for number in range(100)))
    enrol(log)
    journal = _BulkBuilder(folder, log.origin)
    at_ms = NOW_MS
    frame: list[bytes] = []
    for number, record in enumerate(_records(log, records), 1):
        frame.append(record)
        if len(frame) == per_frame or number == records:
            journal.write(frame)
            frame = []
        if number % _RECORDS_PER_HEAD == 0:
            at_ms += _HEAD_MS
            log_heads(log, [journal.head(at_ms=at_ms)], at_ms)
    log_heads(log, [journal.head(HeadKind.FINAL, at_ms + _HEAD_MS)], at_ms + _HEAD_MS)
    journal.flush()
    log.now_ms = at_ms + 2 * _HEAD_MS
    write_folder(folder, log)


def _records(log: LogBuilder, count: int) -> Iterator[bytes]:
    situation = b""
    for number in range(count):
        if number % _RECORDS_PER_HEAD == 0:
            # The log has grown by the head before.
            held = Situation(log.origin, log.size, log.frontier.root_hash(), 0, NOW_MS)
            situation = format_situation(held)
        yield format_record(make_call(number)._replace(situation=situation))
