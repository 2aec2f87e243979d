"""What only a process of its own can show: signals, core dumps, a parent's death, a lock that dies with its holder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hosting.errors import InstanceLocked
from hosting.locks import InstanceLock

REPOSITORY = Path(__file__).resolve().parents[3]

WAIT_FOR_STOP = """
import asyncio
from hosting.processes import install_stop_signals

async def main():
    stop = install_stop_signals(asyncio.get_running_loop())
    print("ready", flush=True)
    await stop.wait()
    print("stopped", flush=True)

asyncio.run(main())
"""

SHOW_DUMPABLE = """
import ctypes, resource
from hosting.processes import disable_core_dumps

PR_GET_DUMPABLE = 3
libc = ctypes.CDLL(None)
before = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
is_marked = disable_core_dumps()
print(before, is_marked, libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""

CHILD = """
import os, signal, sys
from hosting.processes import die_with_parent

def leave(number, frame):
    print("told", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
die_with_parent(int(sys.argv[1]))
print("ready", flush=True)
signal.pause()
"""

PARENT = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
"""

HOLD_LOCK = """
import pathlib, sys
from hosting.locks import InstanceLock

with InstanceLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_sets_the_event_and_lets_the_process_end_itself(number: signal.Signals) -> None:
    with start(WAIT_FOR_STOP) as process:
        assert read_line(process) == "ready"

        process.send_signal(number)

        assert read_line(process) == "stopped"
    assert process.returncode == 0


def test_disable_core_dumps_marks_the_process_and_sets_the_limit() -> None:
    with start(SHOW_DUMPABLE) as process:
        words = read_line(process).split()

    assert words == ["1", "True", "0", "0", "0"]


def test_die_with_parent_killed_parent_child_is_told() -> None:
    with start(PARENT) as parent:
        assert read_line(parent) == "ready"

        parent.kill()

        assert read_line(parent) == "told"
        assert read_line(parent) == ""


def test_die_with_parent_that_died_before_the_call_child_is_told() -> None:
    not_the_parent = os.getppid()

    with start(CHILD, str(not_the_parent)) as child:
        assert read_line(child) == "told"
    assert child.returncode == 0


def test_instance_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    with start(HOLD_LOCK, str(tmp_path)) as holder:
        assert read_line(holder) == "held"
        with pytest.raises(InstanceLocked, match=f"in use by process {holder.pid}"), InstanceLock(tmp_path):
            pass

        holder.kill()
        holder.wait()

        with InstanceLock(tmp_path):
            pass
