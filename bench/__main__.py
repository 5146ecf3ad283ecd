"""`python -m bench [NAME...] [--quick] [--json] [--compare OLD.json]`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before gRPC is loaded

import bench
from bench import report
from bench.machine import machine
from bench.run import Bench, Run

OUT = Path(__file__).parent / "out"
_MODULES = ("yardsticks.bench", "transit", "many", "overlay", "setups", "length", "control_plane", "starting")


def benches() -> dict[str, Bench]:
    """Return every bench by its name in small letters."""
    modules = [importlib.import_module(f"bench.{name}") for name in _MODULES]
    return {made.name.lower(): made for module in modules for made in module.BENCHES}


async def measure(chosen: list[Bench], *, quick: bool, quiet: bool) -> dict[str, Any]:
    """Run benches one after the other; print each table as it is there; return the run's document."""
    began = time.monotonic()
    document: dict[str, Any] = {"machine": machine(), "quick": quick, "benches": {}}
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        async with AsyncExitStack() as closing:
            run = Run(directory, quick, closing, quiet)
            for one in chosen:
                run.say(f"{one.name}: {one.title}")
                load, started = os.getloadavg()[0], time.monotonic()
                failed = ""
                try:
                    figures = await one.measure(run)
                except Exception as error:  # noqa: BLE001 - one bench that fails is reported, and the others go on
                    figures, failed = [], f"{type(error).__name__}: {error}"
                    traceback.print_exception(error)
                document["benches"][one.name] = {
                    "title": one.title,
                    "seconds": round(time.monotonic() - started, 1),
                    "load_before": load,
                    "failed": failed,
                    "figures": [figure.document() for figure in figures],
                }
                if not quiet:
                    print(report.table(f"{one.name}: {one.title}", figures) if figures else failed, flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    document["seconds"] = round(time.monotonic() - began, 1)
    return document


async def interruptible(chosen: list[Bench], *, quick: bool, quiet: bool) -> dict[str, Any] | None:
    """Do that; on SIGINT or SIGTERM take everything down and return None."""
    working = asyncio.create_task(measure(chosen, quick=quick, quiet=quiet))
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, working.cancel)
    try:
        return await working
    except asyncio.CancelledError:
        return None


def main() -> int:
    """Return the exit code: 0, 1 if a bench failed, 130 after Ctrl-C. A figure that falls short is no error."""
    offered = benches()
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(offered)}; all if none")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works, not to quote")
    parser.add_argument("--json", action="store_true", help="print the document instead of tables")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where the document is written")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="show this run beside an earlier one")
    options = parser.parse_args()
    unknown = [name for name in options.names if name.lower() not in offered]
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}")
    old = report.load(options.compare) if options.compare else None
    chosen = [offered[name.lower()] for name in options.names] or list(offered.values())
    document = uvloop.run(interruptible(chosen, quick=options.quick, quiet=options.json))
    if document is None:
        print("interrupted, and nothing is left running", file=sys.stderr)
        return 130
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{time.strftime('%Y%m%d-%H%M%S')}{'-quick' if options.quick else ''}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
    else:
        print(f"{document['seconds']:.0f} s; {path}", file=sys.stderr)
    if old is not None:
        print(report.compare(old, document))
    return 1 if any(one["failed"] for one in document["benches"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
