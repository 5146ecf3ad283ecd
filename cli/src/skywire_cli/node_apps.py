"""`skywire node apps`: list, start and stop the apps of a node; add and remove them in its configuration."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import click
from skywire_common.errors import ErrorCode, Failure

from skywire_cli.asking import Cell, ask, completing, show
from skywire_cli.failures import CliError
from skywire_cli.lazy import ListGroup
from skywire_cli.nearest import named
from skywire_cli.node_programs import add_app, remove_app
from skywire_cli.output import age, json_wanted, print_json
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin

_POLL = 0.1
_NOT_YET = frozenset({"STARTING", "STOPPING"})
_RUNNING = _NOT_YET | {"READY", "DEGRADED"}
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


@click.group(cls=ListGroup)
def apps() -> None:
    """List, start, stop, add and remove apps."""


apps.add_command(add_app)
apps.add_command(remove_app)


async def _names(admin: NodeAdmin) -> list[str]:
    return [app.name for app in await admin.apps()]


async def _of(admin: NodeAdmin, name: str, doing: Awaitable[pb.App]) -> pb.App:
    """Return what the node says of one app; of one that it has not, which it has; raises Failure, CliError."""
    try:
        return await doing
    except Failure as failure:
        known = await _names(admin) if failure.code is ErrorCode.NOT_FOUND else [name]
        if name in known:
            raise
        raise CliError(failure.code.value, f"the node has no app {name}", named(name, known, "apps")) from failure


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
        app = await _of(admin, name, admin.start_app(name))
        while app.state in pending:
            await asyncio.sleep(_POLL)
            app = next(app for app in await admin.apps() if app.name == name)
        return app

    app = ask(target, start)
    _show_app(app)
    if pending and app.state == "STOPPED" and app.reason != "exit code 0":
        hint = f"all that it printed: skywire logs --app {name}{target.said}"
        raise CliError("APP_FAILED", f"app {name} ended with {app.reason or 'no reason'}", hint)


@apps.command("stop")
@target_options
@click.argument("name", shell_complete=completing(_names))
def stop_app(target: Target, name: str) -> None:
    """Stop the app NAME: SIGTERM, then SIGKILL."""
    _show_app(ask(target, lambda admin: _of(admin, name, admin.stop_app(name))))


@apps.command("auto-start")
@target_options
@click.argument("name", shell_complete=completing(_names))
@click.argument("choice", type=click.Choice(["on", "off"]))
def auto_start(target: Target, name: str, choice: str) -> None:
    """Have the app NAME start with the node, or not: kept over restarts, whatever the config says."""
    _show_app(ask(target, lambda admin: _of(admin, name, admin.set_auto_start(name, choice == "on"))))


def _show_app(app: pb.App) -> None:
    from skywire_cli.shown import plain

    if json_wanted():
        print_json(plain(app))
    else:
        show([plain(app)], "apps", _APP_COLUMNS)
