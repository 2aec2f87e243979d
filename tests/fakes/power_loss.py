"""A disk that loses power: what was synced is kept, and of everything else any part may be there, older, empty or torn.

A SQLite VFS (over the system's own, on real files) notes every write since each file's last sync. At a chosen operation the power is
cut: from then on nothing can be read or written, and `restore` puts on the disk what a disk may hold afterwards. Each 512-byte sector
that was written and not synced becomes one of its older or newer contents, a mixture of two, zeros or noise; the file has any length that
it had meanwhile.

Assumed, as SQLite assumes it by default ("powersafe overwrite"): bytes that a write did not cover are never changed by it, and a sync
that reports success tells the truth.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import apsw

SECTOR_BYTES: Final = 512


@dataclass
class _Sector:
    """A sector with writes that were not synced.

    Attributes:
        versions: Its contents, the durable one first.
        written: For each byte, whether any of these writes covered it.
    """

    versions: list[bytes]
    written: bytearray = field(default_factory=lambda: bytearray(SECTOR_BYTES))


class SimulatedFile:
    """What one file holds, and what it would hold after a loss of power.

    Args:
        content: Durable to begin with; None for a file that is being created.
    """

    def __init__(self, content: bytes | None) -> None:
        self._durable = bytearray(content or b"")
        self._current = bytearray(self._durable)
        self._sizes: list[int | None] = [None if content is None else len(content)]
        self._sectors: dict[int, _Sector] = {}
        self._stuck: dict[int, _Sector] = {}
        if content is None:
            self._sizes.append(0)

    @property
    def unsynced_sectors(self) -> int:
        """Sectors that a loss of power may damage."""
        return len(self._sectors) + len(self._stuck)

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        touched = range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1)
        for number in touched:
            if number in self._stuck:
                self._sectors[number] = self._stuck.pop(number)
            elif number not in self._sectors:
                self._sectors[number] = _Sector([_cut(self._durable, number)])
        if end > len(self._current):
            self._current.extend(bytes(end - len(self._current)))
            self._sizes.append(end)
        self._current[offset:end] = data
        for number in touched:
            sector, start = self._sectors[number], number * SECTOR_BYTES
            sector.versions.append(_cut(self._current, number))
            low, high = max(offset - start, 0), min(end - start, SECTOR_BYTES)
            sector.written[low:high] = b"\x01" * (high - low)

    def truncate(self, size: int) -> None:
        del self._current[size:]
        self._current.extend(bytes(size - len(self._current)))
        self._sizes.append(size)

    def create(self) -> None:
        if self._sizes[-1] is None:
            self._sizes.append(0)

    def delete(self, *, is_durable: bool) -> None:
        self._current.clear()
        self._sizes.append(None)
        if is_durable:
            self.sync()

    def sync(self) -> None:
        """Make everything durable, save for what a failed sync has left behind and nobody has written again since."""
        kept = {number: _cut(self._durable, number) for number in self._stuck}
        self._durable = bytearray(self._current)
        for number, content in kept.items():
            start = number * SECTOR_BYTES
            room = max(len(self._durable) - start, 0)
            self._durable[start : start + SECTOR_BYTES] = content[:room]
        self._sizes = self._sizes[-1:]
        self._sectors.clear()

    def fail_sync(self) -> None:
        """Fail as Linux does: what was not written counts as written from then on, so that a later sync passes it over."""
        self._stuck |= self._sectors
        self._sectors.clear()

    @property
    def is_new(self) -> bool:
        """Whether the directory's entry of the file is not durable yet."""
        return None in self._sizes and self._sizes[-1] is not None

    def sync_entry(self) -> None:
        """Make durable whether there is such a file."""
        if self._sizes[-1] is None:
            self.sync()
        else:
            self._sizes = [size for size in self._sizes if size is not None]

    def after_power_loss(self, chance: random.Random) -> bytes | None:
        """What the disk may hold now, None for no file."""
        size = chance.choice(self._sizes)
        if size is None:
            return None
        content = bytearray(self._durable)
        # A whole run of sectors often shares one fate: a drive writes what it wrote last, or nothing.
        fate = chance.choice(("new", "old", "mixed", "mixed", "mixed"))
        for number, sector in sorted((self._stuck | self._sectors).items()):
            start = number * SECTOR_BYTES
            content.extend(bytes(max(start + SECTOR_BYTES - len(content), 0)))
            content[start : start + SECTOR_BYTES] = _choose(sector, fate, chance)
        content.extend(bytes(max(size - len(content), 0)))
        return bytes(content[:size])


def _cut(content: bytearray, number: int) -> bytes:
    return bytes(content[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")


def _choose(sector: _Sector, fate: str, chance: random.Random) -> bytes:
    if fate == "mixed":
        fate = chance.choice(("new", "old", "any", "torn", "zeroed", "noise"))
    versions = sector.versions
    if fate in ("new", "old"):
        return versions[-1 if fate == "new" else 0]
    if fate == "any":
        return chance.choice(versions)
    if fate == "torn":
        at = chance.randrange(SECTOR_BYTES)
        return chance.choice(versions)[:at] + chance.choice(versions)[at:]
    filling = bytes(SECTOR_BYTES) if fate == "zeroed" else chance.randbytes(SECTOR_BYTES)
    return bytes(
        filled if written else kept for filled, kept, written in zip(filling, versions[0], sector.written, strict=True)
    )


class PowerLossDisk:
    """The files of one directory, until the power is cut and after.

    Args:
        directory: Where SQLite's files are.
        chance: Decides what a loss of power leaves.
        failing_share: Of the syncs, so many fail by chance, with power or without.

    Attributes:
        name: Of the VFS, for SQLite.
        operations: Writes, syncs, truncations and deletions so far.
        writes: How many of them were writes, by name of the file.
        failed_syncs: How many syncs have failed while there was power.
        is_cut: Whether the power is gone.
        damaged_sectors: That the last loss of power could have damaged.
    """

    def __init__(self, directory: Path, chance: random.Random, failing_share: float = 0) -> None:
        self.directory = directory
        self.failing_share = failing_share
        self.failed_syncs = 0
        self.name = f"power-loss-{uuid4().hex}"
        self.operations = 0
        self.writes: Counter[str] = Counter()
        self.is_cut = False
        self.damaged_sectors = 0
        self._chance = chance
        self._cut_at: int | None = None
        self._files: dict[str, SimulatedFile] = {}
        self._vfs = _Vfs(self)

    def cut_after(self, operations: int) -> None:
        """Cut the power at the operation that comes after so many more; that one may be half done."""
        self._cut_at = self.operations + operations

    def cut(self) -> None:
        """Cut the power now."""
        self.is_cut = True

    def restore(self) -> None:
        """Give the power back: the files hold what a disk may hold after the loss. Every connection must be closed."""
        self.damaged_sectors = sum(file.unsynced_sectors for file in self._files.values())
        contents = {path: file.after_power_loss(self._chance) for path, file in self._files.items()}
        for path, content in contents.items():
            if content is None:
                Path(path).unlink(missing_ok=True)
            else:
                Path(path).write_bytes(content)
        # Shared memory is made anew by whoever opens the file first.
        for shared in self.directory.glob("*-shm"):
            shared.unlink()
        self._files.clear()
        self._cut_at, self.is_cut = None, False

    def close(self) -> None:
        """Take the VFS out of SQLite."""
        self._vfs.unregister()

    def open(self, path: str, *, creates: bool) -> SimulatedFile:
        """The file that SQLite opens."""
        if path not in self._files:
            exists = Path(path).exists()
            if not exists and not creates:
                raise apsw.CantOpenError
            self._files[path] = SimulatedFile(Path(path).read_bytes() if exists else None)
        elif creates:
            self._files[path].create()
        return self._files[path]

    def delete(self, path: str, *, is_durable: bool) -> None:
        """Note that SQLite deletes a file."""
        if path in self._files:
            self._files[path].delete(is_durable=is_durable)

    def sync(self, file: SimulatedFile) -> None:
        """Make a file durable; with a new one SQLite syncs the directory, and what was created or deleted there before."""
        if self._chance.random() < self.failing_share:
            self.failed_syncs += 1
            file.fail_sync()
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        if file.is_new:
            for each in self._files.values():
                each.sync_entry()
        file.sync()

    def count(self) -> bool:
        """Count an operation; returns whether the power goes in the midst of it."""
        self.check()
        self.operations += 1
        is_last = self._cut_at is not None and self.operations > self._cut_at
        self.is_cut = is_last
        return is_last

    def check(self) -> None:
        """Fail if the power is gone."""
        if self.is_cut:
            raise _no_power()


class _Vfs(apsw.VFS):
    def __init__(self, disk: PowerLossDisk) -> None:
        self._disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        self._disk.check()
        # Temporary files have no name; what they hold means nothing after a loss of power.
        return apsw.VFSFile("", name, flags) if name is None else _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not self._disk.count():
            super().xDelete(filename, syncdir)
            self._disk.delete(filename, is_durable=syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: PowerLossDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name
        self._file = disk.open(path, creates=bool(flags[0] & apsw.SQLITE_OPEN_CREATE))
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.check()
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:
        is_cut = self._disk.count()
        self._disk.writes[self._name] += 1
        self._file.write(bytes(data), offset)
        self._end(is_cut)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        is_cut = self._disk.count()
        self._file.truncate(newsize)
        self._end(is_cut)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        # The real file needs none: what it holds is put there by `restore`.
        self._end(self._disk.count())
        self._disk.sync(self._file)

    def _end(self, is_cut: bool) -> None:
        if is_cut:
            raise _no_power()


def _no_power() -> Exception:
    return apsw.exception_for(apsw.SQLITE_IOERR)


@contextmanager
def powered(disk: PowerLossDisk) -> Iterator[PowerLossDisk]:
    """The disk, and its end."""
    try:
        yield disk
    finally:
        disk.close()
