"""A journal, and shippers of it: in threads, or in processes that can be killed."""

import os
import random
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

from hosting.clock import SystemClock
from hosting.telemetry.exporter import build_exporter
from hosting.telemetry.resource import build_resource
from journal.format import JournalMode
from sidecar.journal.position import POSITION_FILE_NAME, load_positions
from sidecar.journal.shipper import Shipper
from sidecar.journal.writer import FileJournal
from sidecar.sync.backoff import Backoff
from sidecar.telemetry.spans import project
from tests.fakes.journal_material import SealingKeys, make_record

KEYS = SealingKeys()
STOP_WITHIN_SECONDS = 5.0
REPOSITORY = Path(__file__).resolve().parents[3]


def make_shipper(directory: Path, environ: dict[str, str]) -> Shipper:
    """A shipper of a directory whose keys are `KEYS`; its pauses are short."""
    resource = build_resource("pod-1", "0.1.0", environ)
    return Shipper(
        directory,
        KEYS,
        build_exporter(environ),
        directory / POSITION_FILE_NAME,
        SystemClock(),
        project=partial(project, resource=resource),
        delays=Backoff(0.02, 0.2, random.Random(1)),
    )


class Station:
    """A journal, and shippers of it that run in threads."""

    def __init__(self, directory: Path, segment_max_bytes: int = 20_000) -> None:
        self.directory = directory
        self._segment_max_bytes = segment_max_bytes
        self.journal = self.open_journal()
        self._stops: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        self._shippers: list[Shipper] = []

    def open_journal(self) -> FileJournal:
        return FileJournal.open(
            self.directory, KEYS, "pod-1", JournalMode.GROUP, SystemClock(), segment_max_bytes=self._segment_max_bytes
        )

    def append(self, numbers: range, items: int = 1) -> None:
        for number in numbers:
            self.journal.append_now(make_record(number, items), items)

    def start_shipper(self, environ: dict[str, str]) -> None:
        shipper = make_shipper(self.directory, environ)
        stop = threading.Event()
        thread = threading.Thread(target=shipper.run, args=(stop,))
        thread.start()
        self._stops.append(stop)
        self._threads.append(thread)
        self._shippers.append(shipper)

    def stop_shipper(self) -> None:
        """Raises AssertionError where it does not stop in time."""
        self._stops.pop().set()
        thread = self._threads.pop()
        thread.join(STOP_WITHIN_SECONDS)
        is_alive = thread.is_alive()
        self._shippers.pop().close()
        assert not is_alive

    def close(self) -> None:
        while self._stops:
            self.stop_shipper()
        self.journal.close()

    def shipped(self) -> int:
        return sum(position.decisions for position in load_positions(self.directory / POSITION_FILE_NAME).values())


class ShipperProcess:
    """A shipper of a directory in a process of its own, until it is killed.

    Args:
        directory: The journal's.
        environ: Where spans go.
    """

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.integration.sidecar.station", str(directory)]
        self._process = subprocess.Popen(command, env=os.environ | environ, cwd=REPOSITORY)

    def kill(self) -> None:
        """SIGKILL; comes back once it is gone."""
        self._process.kill()
        assert self._process.wait(STOP_WITHIN_SECONDS) == -signal.SIGKILL


if __name__ == "__main__":
    make_shipper(Path(sys.argv[1]), dict(os.environ)).run(threading.Event())
