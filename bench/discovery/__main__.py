"""Run it: calls beside bare calls on both databases, routes and graphs at three sizes, a plot; JSON in bench/out."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from discovery_process import DiscoveryProcess  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from bench.discovery.graphs import database_of  # noqa: E402

OUT = ROOT / "bench" / "out"
SIZES = (1_000, 10_000, 100_000)
UNLIMITED = {"transports_per_node": 10_000_000, "registrations_per_minute": 100_000_000}
# Of P9: the share of bare unary calls, or entries a second.
TARGETS = {
    "registrations, one by one": ("ratio", 0.4),
    "heartbeats": ("ratio", 0.6),
    "lookups": ("ratio", 0.6),
    "registrations, in batches of 100": ("rate", 4000.0),
}


def module(name: str, *arguments: str) -> Any:
    """Run a part in a process of its own and return the JSON that it prints."""
    command = [sys.executable, "-m", f"bench.discovery.{name}", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


@contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """Run the yardstick's server; yield its address and process."""
    command = [sys.executable, "-m", "bench.discovery.bare"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}", process.pid
        finally:
            process.kill()


def calls(database: str, url: str, seconds: float, server: int) -> dict[str, Any]:
    """Measure one discovery on one database; `server` is the process of PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory, bare_server() as (bare, bare_pid):
        process = DiscoveryProcess(Path(directory), url.format(directory=directory), limits=UNLIMITED)
        if database == "postgresql":
            process.migrated()
        process.start()
        try:
            pids = {"server": process.pid} | ({"PostgreSQL": server} if database == "postgresql" else {})
            asked = {
                "grpc": process.grpc,
                "public_key": str(process.public),
                "bare": bare,
                "bare_pid": bare_pid,
                "pids": pids,
                "seconds": seconds,
            }
            return dict(module("caller", json.dumps(asked)))
        finally:
            process.stop()


def calls_in(path: Path, seconds: float) -> dict[str, Any]:
    """Measure the calls of a discovery that holds what is in a SQLite file."""
    return calls("sqlite", f"sqlite+aiosqlite:///{path}", seconds, 0)


def show_calls(database: str, found: dict[str, Any]) -> None:
    """Print the rates as a table."""
    print(f"\n{database}, 64 callers        per second    of bare   p50 ms   p99 ms   target   CPU of each, µs")
    for name, one in found.items():
        kind, target = TARGETS.get(name, ("", 0.0))
        # The median of the rounds' ratios: a machine that is slow for a while changes both.
        ratio = median(rate / bare for rate, bare in zip(one["rounds"], one.get("bare", one["rounds"]), strict=True))
        reached = (ratio if kind == "ratio" else one["per_second"]) >= target
        said = f"{target:g} {'ok' if reached else 'MISSED'}" if kind else ""
        cpu = "  ".join(f"{process} {spent:.0f}" for process, spent in one["cpu_us"].items())
        times = f"{one['p50_ms']:7.1f}  {one['p99_ms']:7.1f}"
        print(f"  {name:34}{one['per_second']:8.0f}   {ratio:7.2f}  {times}   {said:11} {cpu}")


def show_routes(sizes: list[dict[str, Any]]) -> None:
    """Print search, load and memory as a table."""
    print("\n    nodes  transports   one p50   one p99  five p50  five p99 (ms CPU)   load s   memory MB")
    for size in sizes:
        searches = "".join(f"{size[name]:10.2f}" for name in ("one_p50_ms", "one_p99_ms", "five_p50_ms", "five_p99_ms"))
        print(f"{size['nodes']:9}{size['transports']:12}{searches}{size['load_s']:18.2f}{size['memory_mb']:12.0f}")


def show_growth(sizes: list[dict[str, Any]]) -> None:
    """Print calls by size as a table: per second, and CPU of the server."""
    names = [name for name in sizes[0]["calls"] if name != "bare unary calls"]
    print("\nSQLite, calls per second (server's CPU of one, µs)")
    print("    nodes  " + "".join(f"{name[:30]:>32}" for name in names))
    for size in sizes:
        found = [size["calls"][name] for name in names]
        cells = [f"{one['per_second']:.0f} ({one['cpu_us']['server']:.0f})" for one in found]
        print(f"{size['nodes']:9}  " + "".join(f"{cell:>32}" for cell in cells))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.discovery")
    parser.add_argument("--quick", action="store_true", help="a second for each, small networks")
    parser.add_argument("--only", choices=("calls", "routes"))
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="calls on this one alone")
    arguments = parser.parse_args()
    seconds = 1.0 if arguments.quick else 4.0
    OUT.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"at": int(time.time()), "seconds": seconds}
    if arguments.only != "routes":
        server = PostgresServer() if PostgresServer.find() and arguments.database != "sqlite" else None
        dsn = ""
        try:
            if server is not None:
                server.start()
                dsn = server.dsn("postgres")
            result["sql"] = module("bare_sql", str(seconds), dsn)
            print("  ".join(f"{name} {rate:.0f}/s" for name, rate in result["sql"].items()))
            urls = {"sqlite": "sqlite+aiosqlite:///{directory}/discovery.db"}
            if server is not None:
                urls["postgresql"] = server.url("postgres")
            for database, url in urls.items():
                if arguments.database not in (None, database):
                    continue
                result[database] = calls(database, url, seconds, server.pid if server else 0)
                show_calls(database, result[database])
        finally:
            if server is not None:
                server.close()
    if arguments.only != "calls":
        with tempfile.TemporaryDirectory() as directory:
            sizes = [module("graphs", str(nodes), directory) for nodes in (SIZES[:2] if arguments.quick else SIZES)]
            for size in sizes:
                size["calls"] = calls_in(database_of(Path(directory), size["nodes"]), seconds)
        result["routes"] = sizes
        show_routes(sizes)
        show_growth(sizes)
        if not arguments.quick:
            from bench.discovery.plot import draw

            draw(sizes, ROOT / "docs" / "discovery-growth.png")
    path = OUT / f"discovery{'-quick' if arguments.quick else ''}.json"
    path.write_text(json.dumps(result, indent=1))
    print(f"\nwritten to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
