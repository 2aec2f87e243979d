"""`make demo` itself: every step, in time, and nothing left behind, however it ends."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.demo.__main__ import STEPS
from tests.e2e.demo.choices import read_addresses
from tests.e2e.demo.stage import PEOPLE, find_suppression_file
from tests.e2e.deployment import short_folder
from tests.e2e.processes import REPOSITORY, wait_until
from tests.e2e.search import IdentifierSearch

MOST_SECONDS = 60.0


@contextmanager
def running_demo(tmp_path: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process, with a home and a place for temporary files that nobody else writes to."""
    places = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for place in places.values():
        place.mkdir()
    environ = os.environ | {name: str(place) for name, place in places.items()} | variables
    command = [sys.executable, "-m", "tests.e2e.demo"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, text=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def processes_of(folder: Path) -> list[str]:
    """The command line of every process that was told of a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


def read_folder(line: str) -> Path:
    """Where the demo says that everything is."""
    match = re.match(r"Everything is in (\S+) until the end", line)
    assert match is not None
    return Path(match[1])


def assert_shows_every_step(output: str) -> None:
    for number, (title, _) in enumerate(STEPS, start=1):
        assert re.search(rf"^ ?{number}  +[\d,]+ ms  ok      {re.escape(title)}$", output, re.MULTILINE), title
    total = re.search(rf"^{len(STEPS)} of {len(STEPS)} steps hold, in ([\d.]+) s$", output, re.MULTILINE)
    assert total is not None
    assert float(total[1]) <= MOST_SECONDS


@pytest.mark.parametrize(
    "shared", ["", pytest.param("none", marks=pytest.mark.long(seconds=30))], ids=["shared-data", "own-data"]
)
def test_demo_shows_every_step_in_time_and_leaves_nothing(tmp_path: Path, shared: str) -> None:
    variables = {"CONSENTRY_SHARED": str(tmp_path / shared)} if shared else {}
    with running_demo(tmp_path, **variables) as demo:
        output, _ = demo.communicate(timeout=110)
    assert (demo.returncode, output[-2000:] if demo.returncode else "") == (0, "")
    assert_shows_every_step(output)
    folder = read_folder(output.replace("\n", " ", 1))
    assert not folder.exists()
    assert processes_of(folder) == []
    # Nothing in the user's own places either.
    assert [path for name in ("home", "tmpdir", "xdg_cache_home") for path in (tmp_path / name).iterdir()] == []
    # And nobody's identifier on the screen.
    people = [*PEOPLE, *read_addresses(find_suppression_file())]
    assert not list(IdentifierSearch(person.value for person in people).find(output.encode(), "output"))


@pytest.mark.long(seconds=20)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("step", [1, 3, 10])
def test_demo_ended_by_a_signal_leaves_no_process(tmp_path: Path, number: signal.Signals, step: int) -> None:
    with running_demo(tmp_path) as demo:
        assert demo.stdout is not None
        folder = read_folder(demo.stdout.readline())
        shown = [demo.stdout.readline()]
        while not re.match(rf" ?{step}  ", shown[-1]):
            assert shown[-1], "".join(shown)
            shown.append(demo.stdout.readline())
        assert processes_of(folder)
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=60)
    if number is signal.SIGKILL:
        # Nobody was left to clean up, but the kernel ends what was started.
        wait_until(lambda: not processes_of(folder), "everything that was started has ended")
        shutil.rmtree(folder)
        return
    assert demo.returncode == 128 + number
    assert f"Stopped by {number.name}" in output
    assert processes_of(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize(("name", "is_inside"), [("short", True), ("long" * 25, False)])
def test_short_folder_is_inside_the_checkout_if_sockets_fit_there(
    monkeypatch: pytest.MonkeyPatch, name: str, is_inside: bool
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        checkout = Path(parent) / name
        checkout.mkdir()
        monkeypatch.setattr("tests.e2e.deployment.REPOSITORY", checkout)
        with short_folder("demo") as folder:
            assert folder.is_dir()
            assert folder.is_relative_to(checkout) == is_inside
        assert not folder.exists()
