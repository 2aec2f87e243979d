"""A stop signal that comes at the worst moment: while the main thread is inside the event that it would set."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from hosting.processes import stop_event_on_signals
stop = stop_event_on_signals()
with stop._cond:
    os.kill(os.getpid(), int(sys.argv[1]))
sys.exit(0 if stop.wait(20) else 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_never_waits_for_the_thread_that_it_stops(number: signal.Signals) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(int(number))], timeout=60, check=False)
    assert ended.returncode == 0
