"""`skywire node`: look into a node and steer it, over its NodeAdmin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skywire_cli.asking import Cell, ask, completing, done, show
from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import Lazy, LazyGroup, ListGroup
from skywire_cli.node_programs import add_app, remove_app
from skywire_cli.output import age, console, json_wanted, print_json, size, table
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin

_POLL = 0.1
_NOT_YET = frozenset({"STARTING", "STOPPING"})
_RUNNING = _NOT_YET | {"READY", "DEGRADED"}
_PARTS = {
    "loops": Lazy("skywire_cli.node_loops", "loops", "List, add and close loops."),
    "rules": Lazy("skywire_cli.node_rules", "rules", "List and remove routing rules."),
    "transports": Lazy("skywire_cli.node_transports", "transports", "List, add, remove and count transports."),
}


@click.group(cls=LazyGroup, lazy=_PARTS)
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
def apps() -> None:
    """List, start, stop, add and remove apps."""


apps.add_command(add_app)
apps.add_command(remove_app)


async def _names(admin: NodeAdmin) -> list[str]:
    return [app.name for app in await admin.apps()]


@apps.command("list")
@target_options
def list_apps(target: Target) -> None:
    """List the apps of the node's config."""
    from skywire_cli.shown import plain

    show([plain(item) for item in ask(target, lambda admin: admin.apps())], "apps", _APP_COLUMNS)


@apps.command("start")
@target_options
@click.argument("name", shell_complete=completing(_names))
@click.option("--wait", is_flag=True, help="Return when it is READY; exit code 1 if it ends before.")
@click.option("--until-end", is_flag=True, help="Return when it has ended; exit code 1 unless its own is 0.")
def start_app(target: Target, name: str, wait: bool, until_end: bool) -> None:
    """Start the app NAME.

    It is READY once it has introduced itself to the node, which gives it ten seconds.
    """

    import asyncio

    # One that has done its work and ended well meanwhile was READY.
    pending = _RUNNING if until_end else _NOT_YET if wait else frozenset()

    async def start(admin: NodeAdmin) -> pb.App:
        app = await admin.start_app(name)
        while app.state in pending:
            await asyncio.sleep(_POLL)
            app = next(app for app in await admin.apps() if app.name == name)
        return app

    app = ask(target, start)
    _show_app(app)
    if pending and app.state == "STOPPED" and app.reason != "exit code 0":
        hint = f"all that it printed: skywire logs --app {name}"
        raise CliError("APP_FAILED", f"app {name} ended with {app.reason or 'no reason'}", hint)


@apps.command("stop")
@target_options
@click.argument("name", shell_complete=completing(_names))
def stop_app(target: Target, name: str) -> None:
    """Stop the app NAME: SIGTERM, then SIGKILL."""
    _show_app(ask(target, lambda admin: admin.stop_app(name)))


@apps.command("auto-start")
@target_options
@click.argument("name", shell_complete=completing(_names))
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
    done({"level": level}, f"log level {level}")


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
