"""`skywire node loops`: list, add and close loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from skywire_common.errors import DecodeError
from skywire_common.keys import Addr

from skywire_cli.asking import Row, ask, completing, done, short_addr, show
from skywire_cli.lazy import ListGroup
from skywire_cli.loop import find
from skywire_cli.output import json_wanted, size
from skywire_cli.shown import OVER
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin


@click.group(cls=ListGroup)
def loops() -> None:
    """List, add and close loops."""


@loops.command("list")
@target_options
@click.option("--all", "also_over", is_flag=True, help="Those that are over as well, as long as the node remembers.")
def list_loops(target: Target, also_over: bool) -> None:
    """List the loops that end at the node; `skywire loop explain` tells the life of one, also when it is over."""
    from skywire_cli.shown import path, plain

    async def question(admin: NodeAdmin) -> list[pb.Loop]:
        over = list(await admin.loops_over()) if also_over else []
        return [*over, *await admin.loops()]

    answer = ask(target, question)
    show(
        [{**plain(item), "_path": path(item.routes.forward)} if not json_wanted() else plain(item) for item in answer],
        "loops",
        {
            "loop": lambda row: row["loop_id"][:8],
            "app": lambda row: row["app"],
            "local": lambda row: short_addr(row["local"]),
            "remote": lambda row: short_addr(row["remote"]),
            "state": lambda row: f"{row['state']} {row['reason']}".rstrip(),
            ">sent": lambda row: "" if row["state"] in OVER else size(row["bytes_sent"]),
            ">received": lambda row: "" if row["state"] in OVER else size(row["bytes_received"]),
            ">round trip": lambda row: f"{row['round_trip_us']} µs" if row["round_trip_us"] else "",
            ">reroutes": lambda row: "" if row["state"] in OVER else row["reroutes"],
            "standby": lambda row: row["standby"],
            "route": _route,
        },
    )


def _route(row: Row) -> str:
    if row["_path"] or row["state"] in OVER:
        return str(row["_path"])
    within = row["local"]["public_key"] == row["remote"]["public_key"]
    return "within this node" if within else "the other end made it; skywire loop trace"


class End(click.ParamType[Addr]):
    """KEY:PORT on the command line."""

    name = "KEY:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Addr:
        """Read 66 hex digits and a port."""
        try:
            return Addr.parse(str(value))
        except DecodeError as error:
            self.fail(str(error), param, ctx)


async def _app_names(admin: NodeAdmin) -> list[str]:
    return [app.name for app in await admin.apps()]


async def _ids(admin: NodeAdmin) -> list[str]:
    return [loop.loop_id.hex() for loop in await admin.loops()]


@loops.command("add")
@target_options
@click.argument("app", shell_complete=completing(_app_names))
@click.argument("end", type=End(), metavar="KEY:PORT")
def add_loop(target: Target, app: str, end: Addr) -> None:
    """Set a loop up from APP, which runs here, to KEY:PORT. APP gets it as if the other end had dialled."""
    from skywire_cli.shown import plain

    added = plain(ask(target, lambda admin: admin.add_loop(app, end)))
    ends = f"{short_addr(added['local'])} to {short_addr(added['remote'])}"
    done(added, f"{added['loop_id'] or 'a loop within this node'} open, {ends}")


@loops.command("close")
@target_options
@click.argument("loop_id", shell_complete=completing(_ids))
def close_loop(target: Target, loop_id: str) -> None:
    """End the loop LOOP_ID at once, its id or enough of its first digits.

    Both apps hear that the node's owner closed it; what was under way between them is lost. It ends a loop also if an
    app does not read, or left it behind.
    """
    if not loop_id:
        raise click.BadParameter("name a loop by its id or enough of its first digits")

    async def close(admin: NodeAdmin) -> bytes:
        found = (await find(admin, loop_id)).loop_id
        await admin.close_loop(found)
        return found

    closed = ask(target, close).hex()
    done({"closed": closed}, f"{closed} closed")
