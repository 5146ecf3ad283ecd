"""Run a service with a wrong clock: `python -m skywire_cli.testnet.failing.skewed 600 skywire_node --config FILE`.

The wall clock of the process's Python, `time.time`, is so many seconds ahead; its monotonic clock and everybody else's
clocks are right. Behind it cannot be: gRPC's Python takes deadlines from that clock, and they would be over at once.
Services ask `time.time` and nothing else what time it is; the stamps of the log stay right. That needs neither root nor
a library that is loaded before the C library, as a skewed system clock would.
"""

from __future__ import annotations

import runpy
import sys
import time


def skew(seconds: float) -> None:
    """Have `time.time` of this process be wrong from now on; who took it before keeps the right one."""
    right = time.time
    time.time = lambda: right() + seconds


def main() -> None:
    """Take the offset and the module from the command line, and become that module."""
    offset, module = float(sys.argv[1]), sys.argv[2]
    del sys.argv[1:3]
    skew(offset)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
