"""`skywire status`: READY or DEGRADED and why, on one screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import click

from skywire_cli.asking import ask
from skywire_cli.disk import shortage
from skywire_cli.failures import Exit
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import age, json_wanted, print_json, size, visible
from skywire_cli.target import Target, listens, target_options

Row = dict[str, Any]
# Of each kind; the rest is counted.
MAX_SHOWN = 8
_POLL = 0.2
_WAIT_HELP = "Wait so long until it listens, is READY, its transports are UP and its auto-start apps not STARTING."
_COLOUR = {"READY": "green", "DEGRADED": "yellow", "STOPPING": "yellow"}


@click.command(cls=JsonCommand)
@target_options
@click.option("--wait", "seconds", metavar="SECONDS", type=click.FloatRange(0), default=0.0, help=_WAIT_HELP)
def status(target: Target, seconds: float) -> int:
    """Say whether the node is READY, and everything that is not as it should be; exit code 4 unless all is."""
    from skywire_cli.admin import NodeAdmin
    from skywire_cli.shown import plain

    async def look(admin: NodeAdmin) -> tuple[Row, list[Row], list[Row]]:
        summary = plain(await admin.summary())
        transports = [plain(one) for one in await admin.transports()]
        return summary, [plain(one) for one in await admin.apps()], transports

    config = target.config_file() if target.remote is None else None
    until = time.monotonic() + seconds
    while target.remote is None and not listens(target.admin_socket()) and time.monotonic() < until:
        time.sleep(_POLL)  # the node is about to start, perhaps

    async def wait(admin: NodeAdmin) -> tuple[Row, list[Row], list[Row]]:
        while True:
            seen = await look(admin)
            if verdict(*seen)[0] == "READY" or time.monotonic() >= until:
                return seen
            await asyncio.sleep(_POLL)

    def verdict(summary: Row, apps: Sequence[Row], transports: Sequence[Row]) -> tuple[str, list[str]]:
        state, reasons = judged(summary, apps, transports, shortage(config))
        begin = starting(apps) if seconds else []
        return ("DEGRADED" if state == "READY" and begin else state), reasons + begin

    summary, apps, transports = ask(target, wait)
    state, reasons = verdict(summary, apps, transports)
    if json_wanted():
        print_json({"state": state, "reasons": reasons, "summary": summary, "apps": apps, "transports": transports})
    else:
        click.echo("\n".join(lines(state, reasons, summary, apps)))
    return Exit.OK if state == "READY" else Exit.NOT_READY


def judged(summary: Row, apps: Sequence[Row], transports: Sequence[Row], room: str = "") -> tuple[str, list[str]]:
    """Return the state with all that its owner would call a reason: the node's own, its disk, apps and transports."""
    reasons = [*summary["reasons"], *([room] if room else [])]
    reasons += [
        f"app {app['name']} is {app['state']}: {app['reason'] or 'it gave no reason'}"
        for app in apps
        if app["state"] == "DEGRADED" or (app["state"] == "STOPPED" and app["auto_start"])
    ]
    for row in transports:
        if row["state"] != "UP":
            why = f": {row['reason']}" if row["reason"] else ""
            lost = f"is not up for {age(row['since_s'])} ({row['state']})"
            reasons.append(f"transport to {row['remote'][:8]} {lost}{why}")
    if not transports:
        reasons.append("there is no transport: nothing is linked to this node")
    state = summary["state"]
    return ("DEGRADED" if state == "READY" and reasons else state), reasons


def starting(apps: Sequence[Row]) -> list[str]:
    """Return the apps that start with the node and have not done so: no fault, but who waits waits for them too."""
    return [
        f"app {app['name']} is STARTING for {age(app['since_s'])}"
        for app in apps
        if app["state"] == "STARTING" and app["auto_start"]
    ]


def lines(state: str, reasons: Sequence[str], summary: Row, apps: Sequence[Row]) -> list[str]:
    """Return the screen."""
    screen = [f"{click.style(state, fg=_COLOUR.get(state, 'red'), bold=True)}, up for {age(summary['uptime_s'])}"]
    screen += [f"  - {visible(reason)}" for reason in reasons[:MAX_SHOWN]]
    if len(reasons) > MAX_SHOWN:
        screen.append(f"  and {len(reasons) - MAX_SHOWN} more: skywire doctor")
    screen += [
        f"node        {summary['build']['public_key']}  version {summary['build']['version']}",
        f"listens on  links {summary['link_address']}, control {summary['control_address']}",
        f"transports  {summary['transports_up']} up of {summary['transports']}",
        f"apps        {summary['apps_ready']} ready of {summary['apps']}"
        + "".join(f"; {app['name']} {app['state']}" for app in apps[:MAX_SHOWN])
        + (f"; and {len(apps) - MAX_SHOWN} more: skywire node apps" if len(apps) > MAX_SHOWN else ""),
        f"loops       {summary['loops']}",
        f"rules       {summary['rules']}, forwarded {summary['packets_forwarded']} packets,"
        f" {size(summary['bytes_forwarded'])}",
    ]
    if reasons:
        screen.append("what to do: skywire doctor")
    return screen
