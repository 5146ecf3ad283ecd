"""`skywire discovery status|transports|nodes|routes`: what the transport discovery knows, once or again and again."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

import click
from skywire_common.keys import PublicKey

from skywire_cli.asking import node_key
from skywire_cli.failures import Exit
from skywire_cli.lazy import JsonGroup
from skywire_cli.output import age, console, counted, json_wanted, print_json, table
from skywire_cli.target import DISCOVERY_VARIABLE, check_address, directory_option, no_discovery

if TYPE_CHECKING:
    from rich.console import RenderableType
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
    from skywire_common.rpc.client import RpcChannel

PACKAGE = "/skywire.transport_discovery.v1."
TIMEOUT = 5.0
# Between two looks with --watch.
WATCH_S = 2.0
# Rows of a table; more are in --json.
MAX_ROWS = 200

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Shown(NamedTuple):
    """An answer for programs, how people see it, and the exit code that goes with it."""

    document: object
    table: Callable[[], RenderableType]
    code: Exit = Exit.OK


Look = Callable[["RpcChannel"], Awaitable[Shown]]


@click.group(cls=JsonGroup)
def discovery() -> None:
    """Look into the transport discovery."""


def _options(command: _Command) -> _Command:
    """Add `--discovery`, `--dir` and `--watch`; the command returns what to look at, and is shown it."""

    @functools.wraps(command)
    def with_options(discovery: str | None, directory: Path, watch: bool, **rest: Any) -> int:
        return asyncio.run(_show(_address(discovery, directory), command(**rest), watch))

    named = click.option(
        "--discovery", envvar=DISCOVERY_VARIABLE, help=f"host:port of its gRPC [{DISCOVERY_VARIABLE}]."
    )
    again = click.option("--watch", is_flag=True, help=f"Look again every {WATCH_S:.0f} s, until interrupted.")
    return named(again(directory_option(with_options)))  # type: ignore[return-value]


def _address(named: str | None, directory: Path) -> str:
    if named:
        check_address(named)
        return named
    from skywire_cli.testnet.state import load

    state = load(directory)
    if state is None:
        raise no_discovery()
    return state.discovery().interfaces["grpc"]


async def _show(address: str, look: Look, watch: bool) -> int:
    async with _channel(address) as channel:
        shown = await look(channel)
        if json_wanted():
            print_json(shown.document)
            while watch:
                await asyncio.sleep(WATCH_S)
                print_json((await look(channel)).document)
        elif not watch:
            console().print(shown.table())
        else:
            from rich.live import Live

            with Live(shown.table(), console=console(), auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(WATCH_S)
                    live.update((await look(channel)).table(), refresh=True)
        return shown.code


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[RpcChannel]:
    from skywire_common.rpc.client import RpcChannel

    channel = RpcChannel(address, None, None)
    try:
        yield channel
    finally:
        await channel.close()


@discovery.command()
@_options
def status() -> Look:
    """Show how a replica is: its database, its graph, what it holds; exit code 4 while it does not serve."""
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    from skywire_cli.shown import plain

    async def look(channel: RpcChannel) -> Shown:
        path = f"{PACKAGE}TransportDiscovery/GetStatus"
        found = await channel.call(path, pb.GetStatusRequest(), pb.GetStatusResponse, timeout=TIMEOUT, signed=False)
        return Shown(plain(found), lambda: _status_table(found), Exit.OK if _serves(found) else Exit.NOT_READY)

    return look


def _serves(found: pb.GetStatusResponse) -> bool:
    return found.database_ok and not found.problem


def _status_table(found: pb.GetStatusResponse) -> RenderableType:
    rows = [
        ("state", "serving" if _serves(found) else f"NOT SERVING: {found.problem}"),
        ("version", f"{found.build.version}, Python {found.build.python}, up {age(found.uptime_s)}"),
        ("public key", found.build.public_key.hex()),
        ("database", f"{found.database}, schema {found.schema or '?'} of {found.schema_wanted}"),
        (
            "registered",
            f"{counted(found.transports, 'transport')}, {counted(found.nodes, 'node')}, {found.nodes_alive} alive",
        ),
        ("graph", f"{counted(found.graph_transports, 'transport')} up between {counted(found.graph_nodes, 'node')}"),
        ("revision", f"{found.revision}, known to be current {found.age_ms} ms ago"),
        ("watchers", found.watchers),
    ]
    return table("transport discovery", ("", ""), rows)


@discovery.command()
@click.option("--node", "named", help="Only transports of this node: its key, or its number in a testnet.")
@click.option("--up", is_flag=True, help="Only those that are up.")
@_options
def transports(named: str | None, up: bool) -> Look:
    """List transports and what their edges say of them."""
    from skywire_cli.shown import plain

    node = _key(named) if named is not None else None

    async def look(channel: RpcChannel) -> Shown:
        found = await (_all_transports(channel) if node is None else _transports_of(channel, node))
        found = [one for one in found if one.is_up or not up]
        return Shown([plain(one) for one in found], lambda: _transport_table(found))

    return look


async def _transports_of(channel: RpcChannel, node: bytes) -> list[pb.TransportStatus]:
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    path, request = f"{PACKAGE}TransportDiscovery/ListTransportsByEdge", pb.ListTransportsByEdgeRequest(edge=node)
    answer = await channel.call(path, request, pb.ListTransportsByEdgeResponse, timeout=TIMEOUT, signed=False)
    return list(answer.transports)


async def _all_transports(channel: RpcChannel) -> list[pb.TransportStatus]:
    """Take the snapshot of a watch, and no more."""
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    path, request = f"{PACKAGE}TransportDiscovery/WatchTransports", pb.WatchTransportsRequest()
    found: list[pb.TransportStatus] = []
    async with asyncio.timeout(60), aclosing(channel.stream(path, request, pb.WatchTransportsResponse)) as events:  # type: ignore[type-var]
        async for event in events:
            found.extend(event.snapshot.transports)
            if event.snapshot.complete:
                break
    return found


def _transport_table(found: Sequence[pb.TransportStatus]) -> RenderableType:
    rows = []
    for one in found[:MAX_ROWS]:
        entry = one.entry.entry
        said = " ".join(
            ("up" if status.is_up else "down") + ("" if status.alive else " (dead)") if status.submitted else "-"
            for status in one.statuses
        )
        state = "up" if one.is_up else "down"
        edges = " ".join(edge.hex()[:8] for edge in entry.edges)
        rows.append((UUID(bytes=entry.transport_id), entry.type, edges, state, said, _time(one.entry.registered)))
    up = sum(one.is_up for one in found)
    title = f"{counted(len(found), 'transport')}, {up} up{_cut(found)}"
    return table(title, ("transport", "type", "edges", "state", "edges say", "registered"), rows)


@discovery.command()
@_options
def nodes() -> Look:
    """List nodes, whether they live, where they are."""
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    from skywire_cli.shown import plain

    async def look(channel: RpcChannel) -> Shown:
        found: list[pb.ListNodesResponse.Node] = []
        more = True
        while more:
            request = pb.ListNodesRequest(after=found[-1].public_key if found else b"")
            path = f"{PACKAGE}NodeDirectory/ListNodes"
            answer = await channel.call(path, request, pb.ListNodesResponse, timeout=TIMEOUT, signed=False)
            found.extend(answer.nodes)
            more = answer.more
        return Shown([plain(one) for one in found], lambda: _node_table(found))

    return look


def _node_table(found: Sequence[pb.ListNodesResponse.Node]) -> RenderableType:
    rows = [
        (
            one.public_key.hex(),
            "alive" if one.alive else "dead",
            age(max(0.0, time.time() - one.last_seen)),
            f"{one.transports_up}/{one.transports}",
            f"{one.online_today:.0%}",
            " ".join(f"{endpoint.kind} {endpoint.address}" for endpoint in one.endpoints),
        )
        for one in found[:MAX_ROWS]
    ]
    alive = sum(one.alive for one in found)
    title = f"{counted(len(found), 'node')}, {alive} alive{_cut(found)}"
    return table(title, ("node", "state", ">last heard", ">up", ">online today", "endpoints"), rows)


@discovery.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--count", type=click.IntRange(1, 16), default=5, show_default=True, help="How many at most.")
@_options
def routes(source: str, target: str, count: int) -> Look:
    """Show routes between two nodes, disjoint ones first (`skywire route find` has more options).

    FROM and TO are public keys, or nodes of a testnet, as 2 or node2.
    """
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    from skywire_cli.shown import path as shown_path
    from skywire_cli.shown import plain

    request = pb.FindRoutesRequest(from_key=_key(source), to_key=_key(target), count=count)

    async def look(channel: RpcChannel) -> Shown:
        method = f"{PACKAGE}RouteFinder/FindRoutes"
        found = await channel.call(method, request, pb.FindRoutesResponse, timeout=TIMEOUT, signed=False)
        rows = [
            (number, len(pair.forward.hops), shown_path(pair.forward)) for number, pair in enumerate(found.routes, 1)
        ]
        title = f"{counted(len(rows), 'route')}, in a graph {found.age_ms} ms old"
        return Shown(plain(found), lambda: table(title, (">", ">hops", "nodes"), rows))

    return look


def _cut(found: Sequence[object]) -> str:
    return f"; the first {MAX_ROWS}" if len(found) > MAX_ROWS else ""


def _key(text: str) -> PublicKey:
    return node_key(text, click.get_current_context().params["directory"])


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds") if seconds else "-"
