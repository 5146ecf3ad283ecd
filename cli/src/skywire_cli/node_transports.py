"""`skywire node transports`: list, add and remove transports, and count what they carried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_cli.asking import Key, ask, completing, done, show
from skywire_cli.failures import CliError
from skywire_cli.lazy import ListGroup
from skywire_cli.nearest import named
from skywire_cli.output import age, json_wanted, print_json, size
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin

_STATES = ("DIALING", "SETTLING", "UP", "SUSPECT", "DOWN")


@click.group(cls=ListGroup)
def transports() -> None:
    """List, add and remove transports."""


async def _ids(admin: NodeAdmin) -> Sequence[str]:
    return [str(UUID(bytes=one.transport_id)) for one in await admin.transports()]


@transports.command("list")
@target_options
@click.option("--type", "types", multiple=True, help="Only of this type; may be given several times.")
@click.option("--to", "keys", type=Key(), multiple=True, help="Only to this node; may be given several times.")
@click.option("--state", "states", type=click.Choice(_STATES, case_sensitive=False), multiple=True, help="Only so.")
@click.option("--public/--private", "public", default=None, help="Only registered ones, or only private ones.")
def list_transports(
    target: Target, types: tuple[str, ...], keys: tuple[PublicKey, ...], states: tuple[str, ...], public: bool | None
) -> None:
    """List transports as the node sees them; filters of different kinds must all hold."""
    from skywire_cli.shown import plain

    answer = [
        one
        for one in ask(target, lambda admin: admin.transports(types, keys))
        if (not states or one.state in states) and (public is None or one.public is public)
    ]
    show(
        [plain(item) for item in answer],
        "transports",
        {
            "id": lambda row: row["transport_id"],
            "to": lambda row: row["remote"][:8],
            "type": lambda row: row["type"],
            "state": lambda row: f"{row['state']} {row['reason']}".rstrip(),
            "for": lambda row: age(row["since_s"]),
            "registered": lambda row: "yes" if row["registered"] else "no",
            "dialled": lambda row: "yes" if row["dialled"] else "no",
            "address": lambda row: row["address"],
            ">sent": lambda row: size(row["bytes_sent"]),
            ">received": lambda row: size(row["bytes_received"]),
        },
    )


@transports.command("types")
@target_options
def transport_types(target: Target) -> None:
    """List the types of transports that the node can make."""
    show(
        [{"type": name} for name in ask(target, lambda admin: admin.transport_types())],
        "types",
        {"type": lambda row: row["type"]},
    )


@transports.command("add")
@target_options
@click.argument("key", type=Key())
@click.option("--type", "kind", default="tcp", show_default=True, help="Type of the transport.")
@click.option("--private", is_flag=True, help="Do not register it: nobody else routes over it.")
@click.option("--address", default="", help="host:port [default: what the discovery says].")
def add_transport(target: Target, key: PublicKey, kind: str, private: bool, address: str) -> None:
    """Dial the node KEY and keep the transport."""
    from skywire_cli.shown import plain

    async def add(admin: NodeAdmin) -> pb.Transport:
        try:
            return await admin.add_transport(key, kind, not private, address)
        except Failure as failure:
            known = await admin.transport_types() if failure.code is ErrorCode.INVALID_ARGUMENT else [kind]
            if kind in known:
                raise
            raise CliError(failure.code.value, failure.cause, named(kind, known, "types")) from failure

    added = ask(target, add)
    if json_wanted():
        print_json(plain(added))
    else:
        registered = "registered" if added.registered else "not registered"
        click.echo(f"{UUID(bytes=added.transport_id)} {added.state} {registered}")


@transports.command("remove")
@target_options
@click.argument("transport_id", type=click.UUID, metavar="ID", shell_complete=completing(_ids))
def remove_transport(target: Target, transport_id: UUID) -> None:
    """Close a transport for good: until it is added again, whoever dials and whatever the config says."""
    ask(target, lambda admin: admin.remove_transport(transport_id))
    done({"removed": str(transport_id)}, f"{transport_id} removed")


@transports.command("traffic")
@target_options
@click.argument("ids", type=click.UUID, nargs=-1, metavar="[ID]...", shell_complete=completing(_ids))
@click.option("--days", type=click.IntRange(1, 400), default=7, show_default=True, help="So many days, today included.")
def traffic(target: Target, ids: tuple[UUID, ...], days: int) -> None:
    """Count bytes and packets by transport and day (UTC), over restarts, of removed transports too."""
    from skywire_cli.shown import plain

    rows, more = ask(target, lambda admin: admin.traffic(ids, days))
    show(
        [plain(row) for row in rows],
        "traffic",
        {
            "day": lambda row: row["day"],
            "to": lambda row: row["remote"][:8],
            "type": lambda row: row["type"] + ("" if row["public"] else ", private"),
            "id": lambda row: row["transport_id"],
            ">sent": lambda row: size(row["bytes_sent"]),
            ">received": lambda row: size(row["bytes_received"]),
            ">packets sent": lambda row: row["packets_sent"],
            ">packets received": lambda row: row["packets_received"],
        },
    )
    if more and not json_wanted():
        click.echo("there are older days: name transports, or fewer days", err=True)
