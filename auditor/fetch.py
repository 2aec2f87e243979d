"""Fetches log and journals into an audit folder, byte for byte, without judging them: that is for `verify`, from the files.

What is in the folder is never replaced by something shorter or different. Where a source gives that, it is kept beside as `.changed`, which
is a finding here and in every later `verify`. The log comes first: whatever head of a journal it has by then, the journals hold too.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from auditor.config import AuditorSettings, SidecarSourceSettings
from auditor.errors import AuditorError, FolderUnusable, SourceMisbehaves
from auditor.findings import Finding, Findings
from auditor.folder import CHANGED_SUFFIX, JOURNALS_DIRECTORY_NAME, ROOT_KEY_FILE_NAME, TRUST_FILE_NAME
from auditor.grpc_clients.channels import connected
from auditor.grpc_clients.feed_log import read_log
from auditor.grpc_clients.sidecar_journal import MAX_KEYS, Listing, SidecarJournalClient
from auditor.journals import KEYS_FILE_NAME, AuditorKey, SegmentName, format_key_name, load_sealed_keys
from auditor.log_copy import FILE_NAME, LogCopyWriter
from auditor.progress import Progress, no_progress
from consent.eventlog.checkpoint import parse_checkpoint_text
from consent.eventlog.errors import EventLogError
from consent.eventlog.signed_note import parse_note
from hosting.errors import HostingError
from hosting.key_files import write_file_atomically
from hosting.locks import create_directory
from journal.directory import list_segments
from journal.errors import CorruptSegment
from journal.format import format_segment_name
from journal.reader import SegmentReader

if TYPE_CHECKING:
    import grpc

SHIPPED_FILE_NAME: Final = "shipped.json"

_COMPARED_BYTES: Final = 64 << 10


@dataclass(slots=True)
class FetchReport:
    """What a fetch did.

    Attributes:
        entries: New entries of the log.
        log_size: Entries in the copy now.
        segments: Segments that were added or grew.
        journal_bytes: Bytes that came.
        keys: Segment keys that came.
        findings: What had changed at a source.
        failures: Sources that could not be read to the end, and why.
    """

    entries: int = 0
    log_size: int = 0
    segments: int = 0
    journal_bytes: int = 0
    keys: int = 0
    findings: Findings = field(default_factory=Findings)
    failures: list[str] = field(default_factory=list)


def fetch(
    settings: AuditorSettings, folder: Path, key: AuditorKey | None = None, *, progress: Progress = no_progress
) -> FetchReport:
    """Bring an audit folder up to date. A source that fails keeps none of the others from being read.

    Args:
        settings: Where feed and sidecars are.
        folder: The audit folder; made if it is missing.
        key: Asks for segment keys sealed to it; None fetches none.
        progress: Told how far it is.

    Raises:
        FolderUnusable, MalformedLogCopy: The folder cannot be written, or what is in it is no audit folder.
        HostingError: It cannot be made, or the trust file of the settings cannot be read.
    """
    run = _Fetch(settings, folder, key, progress)
    try:
        run.prepare()
        run.fetch_log()
        for sidecar in settings.sidecars:
            run.fetch_journal(sidecar)
    except OSError as error:
        raise FolderUnusable(f"{error.filename or folder}: {error.strerror}") from None
    return run.report


class _Fetch:
    def __init__(self, settings: AuditorSettings, folder: Path, key: AuditorKey | None, progress: Progress) -> None:
        self.report = FetchReport()
        self._settings = settings
        self._folder = folder
        self._key = key
        self._progress = progress

    def prepare(self) -> None:
        create_directory(self._folder, 0o700)
        create_directory(self._folder / JOURNALS_DIRECTORY_NAME, 0o700)
        trust = self._settings.trust
        if trust is not None:
            # The auditor's own, from whoever signs it: the newest counts.
            write_file_atomically(self._folder / TRUST_FILE_NAME, trust.file.read_bytes())
            write_file_atomically(self._folder / ROOT_KEY_FILE_NAME, trust.root_key_file.read_bytes())

    def fetch_log(self) -> None:
        """A kill leaves entries without a checkpoint, which the next fetch drops and reads again."""
        if self._settings.feed is None:
            return
        writer = LogCopyWriter(self._folder / FILE_NAME)
        before = writer.size
        try:
            with self._failing_alone(), connected(self._settings.feed, "feed") as channel:
                self._read_log(writer, channel)
        finally:
            writer.close()
        self.report.log_size = writer.size
        self.report.entries = writer.size - before

    @contextmanager
    def _failing_alone(self) -> Iterator[None]:
        """Let what is wrong with one source be told at the end, and the others be read."""
        try:
            yield
        except (AuditorError, HostingError) as error:
            self.report.failures.append(f"{error.reason}: {error}")

    def _read_log(self, writer: LogCopyWriter, channel: "grpc.Channel") -> None:
        start = writer.size
        for page in read_log(channel, start + 1):
            writer.append(page.entries)
            self._progress("log", writer.size - start, 0)
            if not page.checkpoint_note:
                continue
            size = _size_of(page.checkpoint_note)
            if size < writer.size:
                self._keep_shorter_log(page.checkpoint_note, size, writer.size)
            else:
                writer.seal(page.checkpoint_note)

    def _keep_shorter_log(self, note: bytes, size: int, copied: int) -> None:
        write_file_atomically(self._folder / (FILE_NAME + CHANGED_SUFFIX), note)
        text = f"the feed's log has {size} entries, the copy has {copied}: it was rolled back, or is another one"
        self.report.findings.add(Finding("LOG_CHANGED", text, place=f"seq {size + 1}"))

    def fetch_journal(self, sidecar: SidecarSourceSettings) -> None:
        """A kill leaves a segment shorter than it is; the next fetch goes on behind its last whole frame."""
        directory = self._folder / JOURNALS_DIRECTORY_NAME / sidecar.sidecar_id
        create_directory(directory, 0o700)
        with self._failing_alone(), connected(sidecar, sidecar.sidecar_id) as channel:
            client = SidecarJournalClient(channel, sidecar.sidecar_id, self._settings.timeout_seconds)
            listing = client.list_segments()
            self._fetch_segments(client, sidecar.sidecar_id, directory, listing)
            if listing.shipped_positions:
                write_file_atomically(directory / SHIPPED_FILE_NAME, listing.shipped_positions)
            if self._key is not None:
                self._fetch_keys(client, directory, listing, self._key)

    def _fetch_segments(self, client: SidecarJournalClient, sidecar_id: str, directory: Path, listing: Listing) -> None:
        have = {
            (chain_id, number): size
            for chain_id, sizes in list_segments(directory).items()
            for number, size in sizes.items()
        }
        last: dict[bytes, int] = {}
        for chain_id, number in listing.segments:
            last[chain_id] = max(number, last.get(chain_id, 0))
        total, done = sum(listing.segments.values()), 0
        for name, size in sorted(listing.segments.items()):
            # One that ended and has its length here is not asked for again.
            if have.get(name) != size or last[name[0]] == name[1]:
                self._fetch_segment(client, sidecar_id, directory, name)
            done += size
            self._progress(sidecar_id, done, total)

    def _fetch_segment(self, client: SidecarJournalClient, sidecar_id: str, directory: Path, name: SegmentName) -> None:
        path = directory / format_segment_name(*name)
        end = _whole_end(path)
        start = max(0, end - _COMPARED_BYTES)
        known = _read(path, start, end)
        changed_path = path.with_name(path.name + CHANGED_SUFFIX)
        if changed_path.exists():
            return
        chunks = client.read_segment(name, start)
        beginning = b""
        while len(beginning) < len(known) and (chunk := next(chunks, b"")):
            beginning += chunk
        if beginning[: len(known)] != known:
            self._keep_changed(client, sidecar_id, name, changed_path)
            return
        before = path.stat().st_size if path.exists() else 0
        grown = _append(path, end, _chain(beginning[len(known) :], chunks))
        self.report.segments += 1 if end + grown != before else 0
        self.report.journal_bytes += grown

    def _keep_changed(
        self, client: SidecarJournalClient, sidecar_id: str, name: SegmentName, changed_path: Path
    ) -> None:
        _append(changed_path, 0, client.read_segment(name, 0))
        file_name = format_segment_name(*name)
        text = f"{file_name}: what the sidecar gives now differs from what it had given before; kept as {changed_path.name}"
        self.report.findings.add(Finding("SEGMENT_CHANGED", text, sidecar_id=sidecar_id, place=file_name))

    def _fetch_keys(self, client: SidecarJournalClient, directory: Path, listing: Listing, key: AuditorKey) -> None:
        path = directory / KEYS_FILE_NAME
        sealed = load_sealed_keys(path)
        missing = sorted(name for name in listing.segments if format_key_name(name) not in sealed)
        public_key = key.private_key.public_key().public_bytes_raw()
        for at in range(0, len(missing), MAX_KEYS):
            given = client.segment_keys(missing[at : at + MAX_KEYS], public_key, key.name)
            sealed |= {format_key_name(name): sealed_key.hex() for name, sealed_key in given.items()}
            self.report.keys += len(given)
            write_file_atomically(path, json.dumps(sealed, indent=0, sort_keys=True).encode())


def _size_of(checkpoint_note: bytes) -> int:
    try:
        return parse_checkpoint_text(parse_note(checkpoint_note).text).size
    except EventLogError:
        raise SourceMisbehaves("feed: the checkpoint cannot be read") from None


def _whole_end(path: Path) -> int:
    """Byte after the last whole frame of a segment that is here: what follows may have been half written when it was fetched.

    A sidecar may reserve room, which reads as zeros. So a last frame that ends in a zero may be one that was being written, and does
    not count.
    """
    reader = SegmentReader(path, None)
    try:
        reader.read_header()
        before = end = reader.offset
        while reader.next_frame() is not None:
            before, end = end, reader.offset
        return before if _read(path, end - 1, end) == b"\x00" else end
    except FileNotFoundError:
        return 0
    except CorruptSegment:
        return path.stat().st_size
    finally:
        reader.release()


def _read(path: Path, start: int, end: int) -> bytes:
    if not 0 <= start < end:
        return b""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _append(path: Path, at: int, chunks: Iterator[bytes]) -> int:
    """Write chunks from a place on, in place of what follows it, and return how many bytes they were."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        # First of all, so that a kill leaves a segment that is cut short, and never one with old bytes behind new ones.
        file.truncate(at)
        file.seek(at)
        for chunk in chunks:
            file.write(chunk)
        end = file.tell()
        file.flush()
        os.fsync(file.fileno())
    return end - at


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
