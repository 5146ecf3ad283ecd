"""Search, load and memory at one size, in a process of its own: `python -m bench.discovery.graphs NODES DIRECTORY`."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sqlite3
import sys
import time
from pathlib import Path

from skywire_common.keys import PublicKey
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.search import Query, find_routes
from skywire_transport_discovery.store.database import Database

TRANSPORTS_PER_NODE = 5
PAIRS = 400
DAY_S = 86_400


def key(number: int) -> bytes:
    """Return a key by number; nothing here looks at the curve."""
    return b"\x02" + number.to_bytes(32, "big")


def database_of(directory: Path, nodes: int) -> Path:
    """Return where the filled database of a size is left."""
    return directory / f"{nodes}.db"


async def fill(path: Path, nodes: int, draw: random.Random) -> None:
    """Write nodes and transports straight into the tables: what is measured is reading them."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.upgrade()
    await database.close()
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO nodes (key, epoch, endpoints, max_hops, alive, last_seen_ms, lease_until_ms, day)"
            ' VALUES (?, 1, \'[["tcp","198.51.100.1:7777"]]\', 0, 1, 1, ?, ?)',
            ((key(number), 1 << 60, int(time.time()) // DAY_S) for number in range(nodes)),
        )
        rows = (
            (draw.randbytes(16), *sorted((key(draw.randrange(nodes)), key(number % nodes))))
            for number in range(nodes * TRANSPORTS_PER_NODE)
        )
        connection.executemany(
            "INSERT INTO transports (id, edge_a, edge_b, kind, public, signature_a, signature_b, registered_s, is_up,"
            " said_a, touched_ms) VALUES (?, ?, ?, 'tcp', 1, zeroblob(65), zeroblob(65), 1, 1, 1, 1)",
            (row for row in rows if row[1] != row[2]),
        )
    connection.close()


async def main(nodes: int, directory: Path) -> dict[str, float]:
    """Fill, load as a replica does, search."""
    draw = random.Random(nodes)
    path = database_of(directory, nodes)
    await fill(path, nodes, draw)
    database = Database(f"sqlite+aiosqlite:///{path}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    feed = Feed(database)
    began = time.perf_counter()
    await feed.load()
    found: dict[str, float] = {
        "nodes": nodes,
        "transports": feed.graph.link_count,
        "load_s": time.perf_counter() - began,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "memory_before_mb": before / 1024,
    }
    for name, wanted in (("one", 1), ("five", 5)):
        times = []
        for _ in range(PAIRS):
            source, target = draw.sample(range(nodes), 2)
            query = Query(PublicKey(key(source)), PublicKey(key(target)), wanted=wanted)
            began_cpu = time.process_time()
            find_routes(feed.graph, query)
            times.append(time.process_time() - began_cpu)
        times.sort()
        found[f"{name}_p50_ms"] = times[PAIRS // 2] * 1000
        found[f"{name}_p99_ms"] = times[PAIRS * 99 // 100] * 1000
    await database.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))))
