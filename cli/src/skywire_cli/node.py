"""`skywire node`: look into a node and steer it, over its NodeAdmin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import JsonGroup, ListGroup
from skywire_cli.output import age, console, json_wanted, print_json, size, table
from skywire_cli.target import Target, listening, listens, not_running, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin

Row = dict[str, Any]
Cell = Callable[[Row], object]
_POLL = 0.1
_STATES = ("DIALING", "SETTLING", "UP", "SUSPECT", "DOWN")
_RULES_AT_ONCE = 10_000  # what the node takes in one call
MAX_ROUTE_ID = 0xFFFFFFFF
_Answer = TypeVar("_Answer")


class Key(click.ParamType[PublicKey]):
    """A public key on the command line."""

    name = "public key"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        """Read 66 hex digits."""
        try:
            return PublicKey.parse(str(value))
        except DecodeError as error:
            self.fail(str(error), param, ctx)


def ask(target: Target, question: Callable[[NodeAdmin], Awaitable[_Answer]]) -> _Answer:
    """Connect, ask, close; raises Failure or CliError."""
    socket = listening(target)

    async def run() -> _Answer:
        from skywire_cli.admin import NodeAdmin

        async with NodeAdmin(socket) as admin:
            try:
                return await question(admin)
            except Failure as failure:
                if failure.code is ErrorCode.UNAVAILABLE and not listens(socket):
                    raise not_running(target) from failure  # it has ended meanwhile
                raise

    return asyncio.run(run())


def show(rows: Sequence[Row], title: str, columns: dict[str, Cell]) -> None:
    """Print rows: all fields as JSON, or the columns as a table."""
    if json_wanted():
        print_json(list(rows))
    elif not rows:
        click.echo(f"no {title}")
    else:
        console().print(table(title, list(columns), [[cell(row) for cell in columns.values()] for row in rows]))


@click.group(cls=JsonGroup)
def node() -> None:
    """Look into a node and steer it."""


@node.command()
@target_options
def summary(target: Target) -> int:
    """Show who and how the node is; exit code 4 unless it is READY."""
    from skywire_cli.shown import plain

    answer = ask(target, lambda admin: admin.summary())
    if json_wanted():
        print_json(plain(answer))
    else:
        rows = [
            ("state", " ".join((answer.state, *answer.reasons))),
            ("public key", answer.build.public_key.hex()),
            ("version", f"{answer.build.version}, Python {answer.build.python}"),
            ("up for", age(answer.uptime_s)),
            ("links on", answer.link_address),
            ("control on", answer.control_address),
            ("transports", f"{answer.transports_up} up of {answer.transports}"),
            ("apps", f"{answer.apps_ready} ready of {answer.apps}"),
            ("loops", answer.loops),
            ("rules", f"{answer.rules}, {answer.reservations} reserved ids, {answer.rules_orphaned} orphaned"),
            ("forwarded", f"{answer.packets_forwarded} packets, {size(answer.bytes_forwarded)}"),
            ("dropped", ", ".join(f"{why} {n}" for why, n in sorted(answer.packets_dropped.items())) or "none"),
        ]
        console().print(table("node", ("", ""), rows))
    return Exit.OK if answer.state == "READY" else Exit.NOT_READY


@node.group(cls=ListGroup)
def transports() -> None:
    """List, add and remove transports."""


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
    show([{"type": name} for name in ask(target, lambda admin: admin.transport_types())], "types", {"type": _type})


@transports.command("add")
@target_options
@click.argument("key", type=Key())
@click.option("--type", "kind", default="tcp", show_default=True, help="Type of the transport.")
@click.option("--private", is_flag=True, help="Do not register it: nobody else routes over it.")
@click.option("--address", default="", help="host:port [default: what the discovery says].")
def add_transport(target: Target, key: PublicKey, kind: str, private: bool, address: str) -> None:
    """Dial the node KEY and keep the transport."""
    from skywire_cli.shown import plain

    added = ask(target, lambda admin: admin.add_transport(key, kind, not private, address))
    if json_wanted():
        print_json(plain(added))
    else:
        registered = "registered" if added.registered else "not registered"
        click.echo(f"{UUID(bytes=added.transport_id)} {added.state} {registered}")


@transports.command("remove")
@target_options
@click.argument("transport_id", type=click.UUID, metavar="ID")
def remove_transport(target: Target, transport_id: UUID) -> None:
    """Close a transport and forget it."""
    ask(target, lambda admin: admin.remove_transport(transport_id))
    _done({"removed": str(transport_id)}, f"{transport_id} removed")


@node.group(cls=ListGroup)
def rules() -> None:
    """List and remove routing rules."""


@rules.command("list")
@target_options
def list_rules(target: Target) -> None:
    """List the routing rules of the node."""
    from skywire_cli.shown import rule

    show(
        [rule(item) for item in ask(target, lambda admin: admin.rules())],
        "rules",
        {
            "route id": lambda row: f"{row['route_id']:08x}",
            "type": lambda row: row["type"],
            "from": lambda row: row["from_transport"] or "own loops",
            "next": lambda row: row["next"],
            "set-up": lambda row: row["setup_id"][:8],
            ">lapses in": lambda row: age(row["lapses_in_s"]),
            ">idle": lambda row: "never used" if row["idle_s"] < 0 else age(row["idle_s"]),
            ">packets": lambda row: row["packets"],
            ">bytes": lambda row: size(row["bytes"]),
        },
    )


@rules.command("remove")
@target_options
@click.argument("route_ids", nargs=-1, required=True)
def remove_rules(target: Target, route_ids: tuple[str, ...]) -> None:
    """Remove rules by their ROUTE_IDS, hex as in the list, or by ranges FIRST-LAST of them, ends included.

    Their loops find another way or close. If one of them names no rule, none is removed.
    """
    named = [(text, _range(text)) for text in route_ids]

    async def remove(admin: NodeAdmin) -> int:
        # Ranges are sparse: what they hold is asked for, not counted up.
        there = [rule.route_id for rule in await admin.rules()]
        empty = [text for text, (first, last) in named if not any(first <= number <= last for number in there)]
        if empty:
            raise CliError(
                "NOT_FOUND", f"there is no rule {', '.join(empty)}", "nothing was removed: skywire node rules"
            )
        chosen = [number for number in there if any(first <= number <= last for _, (first, last) in named)]
        parts = (chosen[at : at + _RULES_AT_ONCE] for at in range(0, len(chosen), _RULES_AT_ONCE))
        return sum([await admin.drop_rules(part) for part in parts])

    removed = ask(target, remove)
    _done({"removed": removed}, f"{removed} removed")


rules.add_command(remove_rules, "drop")  # its first name


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        ends = int(first, 16), int(last if dash else first, 16)
    except ValueError as error:
        raise click.BadParameter(f"{text}: a route id is 8 hex digits, a range is FIRST-LAST") from error
    if not 0 <= ends[0] <= ends[1] <= MAX_ROUTE_ID:
        raise click.BadParameter(f"{text}: no route ids, or the last before the first")
    return ends


@node.group(cls=ListGroup)
def loops() -> None:
    """List and close loops."""


@loops.command("list")
@target_options
def list_loops(target: Target) -> None:
    """List the loops that end at the node."""
    from skywire_cli.shown import path, plain

    answer = ask(target, lambda admin: admin.loops())
    show(
        [{**plain(item), "_path": path(item.routes.forward)} if not json_wanted() else plain(item) for item in answer],
        "loops",
        {
            "loop": lambda row: row["loop_id"][:8],
            "app": lambda row: row["app"],
            "local": lambda row: _addr(row["local"]),
            "remote": lambda row: _addr(row["remote"]),
            "state": lambda row: f"{row['state']} {row['reason']}".rstrip(),
            ">sent": lambda row: size(row["bytes_sent"]),
            ">received": lambda row: size(row["bytes_received"]),
            ">round trip": lambda row: f"{row['round_trip_us']} µs" if row["round_trip_us"] else "",
            ">reroutes": lambda row: row["reroutes"],
            "standby": lambda row: row["standby"],
            "route": lambda row: row["_path"],
        },
    )


@loops.command("close")
@target_options
@click.argument("loop_id")
def close_loop(target: Target, loop_id: str) -> None:
    """Close the loop LOOP_ID, its id or enough of its first digits."""

    async def close(admin: NodeAdmin) -> bytes:
        found: list[pb.Loop] = [item for item in await admin.loops() if item.loop_id.hex().startswith(loop_id.lower())]
        if len(found) != 1:
            said = "no loop has" if not found else f"{len(found)} loops have"
            raise CliError("NOT_FOUND", f"{said} an id that starts with {loop_id}")
        await admin.close_loop(found[0].loop_id)
        return found[0].loop_id

    closed = ask(target, close).hex()
    _done({"closed": closed}, f"{closed} closed")


@node.group(cls=ListGroup)
def apps() -> None:
    """List, start and stop apps."""


@apps.command("list")
@target_options
def list_apps(target: Target) -> None:
    """List the apps of the node's config."""
    from skywire_cli.shown import plain

    show([plain(item) for item in ask(target, lambda admin: admin.apps())], "apps", _APP_COLUMNS)


@apps.command("start")
@target_options
@click.argument("name")
@click.option("--wait", is_flag=True, help="Return when it has ended; exit code 1 unless its own is 0.")
def start_app(target: Target, name: str, wait: bool) -> int:
    """Start the app NAME."""

    async def start(admin: NodeAdmin) -> pb.App:
        app = await admin.start_app(name)
        while wait and app.state != "STOPPED":
            await asyncio.sleep(_POLL)
            app = next(app for app in await admin.apps() if app.name == name)
        return app

    app = ask(target, start)
    _show_app(app)
    return Exit.OK if not wait or app.reason == "exit code 0" else Exit.CHECK_FAILED


@apps.command("stop")
@target_options
@click.argument("name")
def stop_app(target: Target, name: str) -> None:
    """Stop the app NAME: SIGTERM, then SIGKILL."""
    _show_app(ask(target, lambda admin: admin.stop_app(name)))


@apps.command("auto-start")
@target_options
@click.argument("name")
@click.argument("choice", type=click.Choice(["on", "off"]))
def auto_start(target: Target, name: str, choice: str) -> None:
    """Have the app NAME start with the node, or not: kept over restarts, whatever the config says."""
    _show_app(ask(target, lambda admin: admin.set_auto_start(name, choice == "on")))


@node.command("log-level")
@target_options
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
def log_level(target: Target, level: str) -> None:
    """Log from LEVEL up from now on."""
    ask(target, lambda admin: admin.set_log_level(level))
    _done({"level": level}, f"log level {level}")


_APP_COLUMNS: dict[str, Cell] = {
    "app": lambda row: f"{row['name']} {row['version']}",
    ">port": lambda row: row["port"],
    "state": lambda row: f"{row['state']} {row['reason']}".rstrip(),
    "for": lambda row: age(row["since_s"]),
    ">pid": lambda row: row["pid"] or "",
    ">loops": lambda row: row["loops"],
    ">restarts": lambda row: row["restarts"],
    "auto start": lambda row: "yes" if row["auto_start"] else "no",
}


def _show_app(app: pb.App) -> None:
    from skywire_cli.shown import plain

    if json_wanted():
        print_json(plain(app))
    else:
        show([plain(app)], "apps", _APP_COLUMNS)


def _type(row: Row) -> object:
    return row["type"]


def _addr(value: object) -> str:
    return f"{value['public_key'][:8]}:{value['port']}" if isinstance(value, dict) else ""


def _done(document: dict[str, object], text: str) -> None:
    if json_wanted():
        print_json(document)
    else:
        click.echo(text)
