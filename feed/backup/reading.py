"""The entries of a log out of a backup and an archive, in their order, and proof that they are what the log has signed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from consent.eventlog.merkle import EMPTY_ROOT_HASH, Frontier
from feed.backup.missing_payloads import MissingPayloads
from feed.errors import CorruptArchive, CorruptLog
from feed.log_store.high_water import Mark
from feed.log_store.identity import LogIdentity
from feed.log_store.segments import Frame, SegmentHead, SegmentReader
from feed.log_store.verification import verify_stored_note

Progress = Callable[[str, int, int], None]
"""Is told the name of a step, how much of it is done, and how much there is (0: not known)."""

_PROGRESS_ENTRIES: Final = 1_000


def no_progress(step: str, done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log that was read to its end and leads to a signed checkpoint.

    Attributes:
        size: Number of entries.
        root_hash: Root over them, 32 bytes.
        base_size: Entries that the first segment holds: the backup, where there is one.
    """

    size: int
    root_hash: bytes
    base_size: int


class LogSegments:
    """Segments that make up a log from its first entry on.

    Args:
        backup: A backup's file, or None.
        archive: Segments of an archive in their order; what the backup holds is passed over.
        identity: Whose log it must be.
        kek: 32 bytes.
    """

    def __init__(self, backup: Path | None, archive: Sequence[Path], identity: LogIdentity, kek: bytes) -> None:
        self._paths = ([backup] if backup is not None else []) + list(archive)
        self._identity = identity
        self._kek = kek

    def head(self) -> SegmentHead:
        """The head of the first segment.

        Raises:
            CorruptArchive: There is none, or it cannot be read.
            ForeignLog: It is of another log or key.
        """
        if not self._paths:
            raise CorruptArchive("there is no segment to read")
        with closing(self._open(self._paths[0])) as reader:
            return reader.head

    def frames(self) -> Iterator[tuple[Frame, bool]]:
        """Frames that follow each other without a gap and without a repetition, and whether each is the last of its segment.

        Raises:
            CorruptArchive: A segment is damaged, or entries are missing.
            ForeignLog: It is of another log or key.
        """
        size = 0
        for path in self._paths:
            base = size
            held: Frame | None = None
            with closing(self._open(path)) as reader:
                for frame in reader.frames():
                    if frame.from_seq > size + 1:
                        raise CorruptArchive(
                            f"{path}: entries {size + 1} to {frame.from_seq - 1} are missing before it"
                        )
                    if held is not None:
                        yield held, False
                        held = None
                    if frame.size > size or (frame.size == size and size > base):
                        held = _without(frame, size, base)
                        size = frame.size
            if held is not None:
                yield held, True

    def verify(self, mark: Mark | None = None, progress: Progress = no_progress) -> VerifiedLog:
        """Hash every entry and compare with the signed checkpoint at the end of each segment.

        What stands behind the last checkpoint was never committed and does not count.

        Args:
            mark: A log that this one must begin with.
            progress: Is told how far it is.

        Raises:
            CorruptArchive: The entries are not what was signed, one lacks its payload without an ERASURE, there is no checkpoint, or
                the mark's entries are other ones.
            ForeignLog: Signed by somebody else.
        """
        self.head()
        frontier = Frontier()
        verified: VerifiedLog | None = None
        candidate: tuple[Frame, Frontier] | None = None
        missing, missing_seq, missing_at_end = MissingPayloads(), 0, 0
        for frame, is_last in self.frames():
            for entry in frame.entries:
                frontier.append(entry.leaf_hash)
                missing.take(entry)
                if mark is not None and frontier.size == mark.size:
                    _verify_mark(mark, frontier)
                if frontier.size % _PROGRESS_ENTRIES == 0:
                    progress("verify", frontier.size, 0)
            if frame.checkpoint_note:
                candidate, missing_seq = (frame, frontier.copy()), missing.first_seq
            if is_last and candidate is not None:
                base_size = verified.base_size if verified is not None else candidate[1].size
                verified, missing_at_end = self._verify_checkpoint(*candidate, base_size), missing_seq
        if verified is None:
            raise CorruptArchive("no signed checkpoint: the backup was not written to its end")
        if missing_at_end:
            raise CorruptArchive(f"entry {missing_at_end} has no payload, and no later ERASURE names it")
        progress("verify", verified.size, verified.size)
        return verified

    def _verify_checkpoint(self, frame: Frame, frontier: Frontier, base_size: int) -> VerifiedLog:
        try:
            checkpoint = verify_stored_note(
                frame.checkpoint_note, origin=self._identity.origin, log_keys=self._identity.log_keys
            )
        except CorruptLog as error:
            raise CorruptArchive(str(error)) from None
        if (checkpoint.size, checkpoint.root_hash) != (frontier.size, frontier.root_hash()):
            raise CorruptArchive(f"the entries up to {frontier.size} do not lead to the checkpoint that the log signed")
        return VerifiedLog(checkpoint.size, checkpoint.root_hash, base_size)

    def _open(self, path: Path) -> SegmentReader:
        return SegmentReader.open(path, self._identity.origin, self._identity.tenant, self._kek)


def _without(frame: Frame, size: int, base: int) -> Frame:
    """A frame without the entries up to `size`, which were read, and without answers that an earlier segment holds."""
    known = size + 1 - frame.from_seq
    requests = [(name_hash, request) for name_hash, request in frame.requests if request.accepted.seq > base]
    return replace(frame, from_seq=size + 1, entries=frame.entries[known:], requests=requests)


def _verify_mark(mark: Mark, frontier: Frontier) -> None:
    if (frontier.root_hash() if frontier.size else EMPTY_ROOT_HASH) != mark.root_hash:
        raise CorruptArchive("the high-water mark is of a log with other entries")
