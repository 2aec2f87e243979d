"""Starts a program that ends with whoever started it, even where that one is killed: the kernel sees to it.

`python launcher.py PARENT_PID [--full-disk] COMMAND...` becomes COMMAND. With `--full-disk` it cannot write a byte to any file: a
limit on the size of files stands in for the disk. It imports next to nothing, because it runs at every start.
"""

import ctypes
import os
import resource
import signal
import sys

FULL_DISK = "--full-disk"
# From <linux/prctl.h>: a signal for when the parent has ended; it outlives exec.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent_pid, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent_pid):
        # It has ended before the kernel was asked, so no signal will ever come.
        sys.exit("the parent is gone")
    if command[0] == FULL_DISK:
        command.pop(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
