"""Become another program that dies with its parent.

    python -I -S shim.py PARENT_PID PROGRAM [ARGUMENT...]

The kernel sends SIGKILL to this process when the thread that started it is gone (PR_SET_PDEATHSIG), however that
happened; the setting survives exec, so a testnet whose launcher is killed leaves no process behind. A process group
with a watchdog would need the watchdog to survive, and would not reach children that make groups of their own.

Run by its path and importing next to nothing: it costs each process 15 ms once.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, check that the parent did not die before, and exec."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main()
