"""How a server process meets its operating system: signals, core dumps, and the death of its parent."""

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
import threading

# Numbers from <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

#: New objects after which the youngest are looked at, instead of Python's 700; and how many such looks until the next older ones are.
_GARBAGE_THRESHOLDS = (20_000, 20, 20)


def install_stop_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; call it in the main thread.

    The signals do nothing else from then on: draining and stopping are the caller's work.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def stop_event_on_signals() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets; call it in the main thread, before any other thread is started.

    For programs without an event loop. The signals are blocked everywhere and waited for in a thread of their own: a handler would run in
    the main thread, and if that is just inside the event, holding its lock, setting it would wait for itself for ever.
    """
    stop, signals = threading.Event(), {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def watch() -> None:
        signal.sigwait(signals)
        stop.set()

    threading.Thread(target=watch, name="stop-signals", daemon=True).start()
    return stop


def disable_core_dumps() -> bool:
    """Keep keys and tables out of core files, and other processes of the same user out of this one's memory.

    Sets the limit for core files to zero for this process and its children, and on Linux marks this process as not
    dumpable, which also refuses ptrace by anyone but root. The mark is lost at exec, the limit is not.

    Returns:
        False where the mark could not be set: another system than Linux, or a sandbox that forbids the call.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return _prctl(_PR_SET_DUMPABLE, 0)


def collect_rarely() -> None:
    """Look for cyclic garbage less often in this process.

    For a server that takes in records by the hundred thousand, which stay and hold no cycles: looking through them again and again as
    they come is a third of the work, and stops everything else meanwhile. What is no part of a cycle is freed at once all the same.
    """
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def die_with_parent(parent_pid: int | None = None, *, signal_number: signal.Signals = signal.SIGTERM) -> bool:
    """Have the kernel send this process ``signal_number`` when the thread that started it ends.

    Args:
        parent_pid: The parent's id, handed down by the parent. If it has died before this call no signal would
            ever come, so the process then signals itself. Without it that gap stays open.
        signal_number: What to send.

    Returns:
        False where the kernel cannot do it: another system than Linux, or a sandbox that forbids the call.
    """
    is_set = _prctl(_PR_SET_PDEATHSIG, signal_number)
    if is_set and parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal_number)
    return is_set


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
