"""`skywire route find`: ask the discovery for ways from one node to another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from skywire_cli.asking import node_key
from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonGroup
from skywire_cli.output import console, counted, json_wanted, print_json, table
from skywire_cli.target import DISCOVERY_VARIABLE, check_address, directory_option, no_discovery

if TYPE_CHECKING:
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    from skywire_cli.testnet.state import State

TIMEOUT = 5.0


@click.group(cls=JsonGroup)
def route() -> None:
    """Find routes."""


@route.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--discovery", envvar=DISCOVERY_VARIABLE, help=f"host:port of its gRPC [{DISCOVERY_VARIABLE}].")
@click.option("--min-hops", type=click.IntRange(0), default=0, help="Fewest hops.")
@click.option("--max-hops", type=click.IntRange(0), default=0, help="Most hops [default: the discovery's limit].")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many pairs at most.")
@click.option("--avoid-node", "avoid_nodes", multiple=True, help="A node not to pass; may be given several times.")
@click.option("--avoid-transport", "avoid_transports", type=click.UUID, multiple=True, help="A transport not to use.")
@directory_option
def find(
    source: str,
    target: str,
    discovery: str | None,
    min_hops: int,
    max_hops: int,
    count: int,
    avoid_nodes: tuple[str, ...],
    avoid_transports: tuple[UUID, ...],
    directory: Path,
) -> None:
    """Find pairs of a path from FROM to TO and one back.

    FROM and TO are public keys, or nodes of a testnet, as 2 or node2.
    """
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    from skywire_cli.testnet.state import load

    request = pb.FindRoutesRequest(
        from_key=node_key(source, directory),
        to_key=node_key(target, directory),
        min_hops=min_hops,
        max_hops=max_hops,
        count=count,
        avoid_nodes=[node_key(text, directory) for text in avoid_nodes],
        avoid_transports=[avoided.bytes for avoided in avoid_transports],
    )
    if request.from_key == request.to_key:
        raise CliError("USAGE", "a route leads from one node to another one", "name two nodes: FROM and TO")
    state = load(directory)
    if discovery:
        check_address(discovery)
    address = discovery or (state.discovery().interfaces["grpc"] if state is not None else "")
    if not address:
        raise no_discovery()
    answer = asyncio.run(_ask(address, request))
    if json_wanted():
        from skywire_cli.shown import plain

        print_json(plain(answer))
    else:
        _print(answer, state)


async def _ask(address: str, request: pb.FindRoutesRequest) -> pb.FindRoutesResponse:
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
    from skywire_common.rpc.client import RpcChannel

    channel = RpcChannel(address, None, None)
    try:
        path = "/skywire.transport_discovery.v1.RouteFinder/FindRoutes"
        return await channel.call(path, request, pb.FindRoutesResponse, timeout=TIMEOUT, signed=False)
    finally:
        await channel.close()


def _print(answer: pb.FindRoutesResponse, state: State | None) -> None:
    names = {bytes.fromhex(node.public_key): node.name for node in state.nodes} if state is not None else {}
    rows = [
        (
            f"{number} {direction}",
            len(path.hops),
            names.get(hop.from_key, hop.from_key.hex()),
            names.get(hop.to_key, hop.to_key.hex()),
            UUID(bytes=hop.transport_id),
        )
        for number, pair in enumerate(answer.routes, start=1)
        for direction, path in (("there", pair.forward), ("back", pair.reverse))
        for hop in path.hops
    ]
    title = f"{counted(len(answer.routes), 'route')}, in a graph {answer.age_ms} ms old"
    console().print(table(title, ("route", ">hops", "from", "to", "transport"), rows))
