"""Programs in processes of their own: started, listened to, killed, and never left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.launcher import FULL_DISK

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
_LAUNCHER = Path(__file__).with_name("launcher.py")
STOP_SECONDS = 25.0
COMMAND_SECONDS = 60.0
_POLL_SECONDS = 0.01
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TAIL_LINES = 10
_TAIL_CHARACTERS = 300


class ProgramError(AssertionError):
    """A program did not do what was waited for; the text ends with what it said last."""


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = 20.0) -> float:
    """Wait until something is so in another process, and return how many seconds that took.

    Raises:
        ProgramError: It was not so in time.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_seconds:
            raise ProgramError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started


def clean_environment() -> dict[str, str]:
    """This process's variables without any that would steer the programs, and no proxy between them."""
    steering = ("CONSENTRY_", "OTEL_", "PYTEST_", "COV_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return environ | {"no_proxy": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}


def command_path(name: str) -> str:
    """Where the set-up has put one of our commands, such as `consentry-feed`."""
    return str(Path(sys.executable).with_name(name))


def run_command(
    name: str,
    *arguments: str | Path,
    environ: Mapping[str, str],
    given: str | bytes = "",
    timeout_seconds: float = COMMAND_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end.

    Args:
        name: Such as `consentry-feed`.
        arguments: What it is called with.
        environ: Its variables.
        given: Its standard input.
        timeout_seconds: When it counts as hung.
    """
    with ExitStack() as stack:
        with undisturbed():
            process = subprocess.Popen(
                [command_path(name), *map(str, arguments)],
                cwd=REPOSITORY,
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
        content = given.encode() if isinstance(given, str) else given
        output, errors = process.communicate(content, timeout_seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, output.decode(), errors.decode())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM while a process is started: none shall run that nobody knows of."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in held:
            signal.raise_signal(each)


class _Run:
    """One process of a program, from its start to the last word of whatever it has started."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log_path: Path) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.heard = threading.Condition()
        self.lines: list[str] = []
        self.has_ended = False
        self._log_path = log_path
        self._killed_at_ticks: float | None = None
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout, self._log_path.open("ab", buffering=0) as log:
            for line in self.process.stdout:
                log.write(line)
                with self.heard:
                    self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self.heard.notify_all()
        with self.heard:
            self.has_ended = True
            self.heard.notify_all()

    def join(self, timeout_seconds: float) -> None:
        """Wait until nobody is left who could say something."""
        self._reader.join(timeout_seconds)

    def kill(self) -> None:
        """End the process by SIGKILL, and none of those that it has started."""
        self.process.kill()
        self.process.wait()
        self._killed_at_ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End the process by SIGTERM, or where that does not help by SIGKILL, and with it whatever it has started."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self._end_group()
        code = self.process.wait()
        self.join(STOP_SECONDS)
        return code

    def _end_group(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        # Once it is empty, the group's number may become somebody else's: then all its members are younger.
        while living_members(self.process.pid, started_before_ticks=self._killed_at_ticks):
            self.process.poll()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


class Program:
    """A server in processes of its own, one after another; leaving the context ends the last and what any has started.

    Args:
        name: For messages, and of its log file.
        command: An executable's path, and its arguments.
        log_directory: Where `<name>.log` gets everything that it says, over all starts.
        environ: Its variables, as they are at a start.
        has_full_disk: It cannot write a byte to any file, as on a disk that is full.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_directory: Path,
        environ: Mapping[str, str],
        has_full_disk: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_directory / f"{name}.log"
        self._command = command
        self._environ = environ
        self._has_full_disk = has_full_disk
        self._runs: list[_Run] = []

    def start(self) -> Self:
        """Start a process; what an earlier one has said is kept in the log file only."""
        options = [FULL_DISK] if self._has_full_disk else []
        # Without the site's packages and the user's variables, which the launcher does not need, it starts in no time.
        launcher = [sys.executable, "-E", "-S", str(_LAUNCHER), str(os.getpid()), *options]
        with undisturbed():
            self._runs.append(_Run([*launcher, *self._command], self._environ, self.log_path))
        return self

    @property
    def pid(self) -> int:
        """Of the process started last."""
        return self._runs[-1].process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process started last has not ended."""
        return bool(self._runs) and self._runs[-1].process.poll() is None

    @property
    def text(self) -> str:
        """What the process has said since its start."""
        return "\n".join(self._lines())

    @property
    def tail(self) -> str:
        """The last of it."""
        return "\n".join(line[:_TAIL_CHARACTERS] for line in self._lines()[-_TAIL_LINES:])

    def _lines(self) -> list[str]:
        if not self._runs:
            return []
        with self._runs[-1].heard:
            return list(self._runs[-1].lines)

    def wait_for_line(self, part: str, timeout_seconds: float = START_SECONDS) -> str:
        """Wait for a line that holds `part`, and return it.

        Raises:
            ProgramError: The program has ended, or the time is up.
        """
        run = self._runs[-1]

        def find() -> str | None:
            return next((line for line in run.lines if part in line), None)

        with run.heard:
            run.heard.wait_for(lambda: find() is not None or run.has_ended, timeout_seconds)
            line = find()
        if line is None:
            raise ProgramError(f"{self.name} did not say {part!r}:\n{self.tail}")
        return line

    def wait_for_exit(self, timeout_seconds: float = START_SECONDS) -> int:
        """Wait until the process ends by itself; returns its exit code, with everything said.

        Raises:
            ProgramError: It goes on running.
        """
        run = self._runs[-1]
        try:
            code = run.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"{self.name} is still running:\n{self.tail}") from None
        run.join(timeout_seconds)
        return code

    def kill(self) -> None:
        """End the process by SIGKILL, as if it had crashed; what it has started is told by the kernel."""
        self._runs[-1].kill()

    def stop(self) -> int:
        """Ask the process to end and wait for it, and for everything that any has started; returns its exit code."""
        codes = [run.stop() for run in self._runs]
        return codes[-1] if codes else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def living_members(group_id: int, *, started_before_ticks: float | None = None) -> list[int]:
    """Processes of a group; those that have ended and wait to be collected are none.

    Args:
        group_id: Number of the group.
        started_before_ticks: Count those only that started before, in clock ticks since the machine's start.
    """
    living = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc_pid_stat(5), from the third field on: the name in brackets before it may hold anything.
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        state, group, started_ticks = fields[0], int(fields[2]), int(fields[19])
        is_old_enough = started_before_ticks is None or started_ticks <= started_before_ticks
        if group == group_id and state not in "ZX" and is_old_enough:
            living.append(int(path.parent.name))
    return living
