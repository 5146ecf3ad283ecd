"""`skywire top`: what a node is doing, again and again: rates of transports, loops and apps."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from skywire_cli.asking import ask
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import age, console, json_wanted, print_json, size, table
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skywire_cli.admin import NodeAdmin

Row = dict[str, Any]
# Rows of each table: it is one screen.
MAX_ROWS = 15
_COUNTED = ("bytes_sent", "bytes_received")


@click.command(cls=JsonCommand)
@target_options
@click.option(
    "--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many looks [default: never; 1 in a pipe].")
def top(target: Target, interval: float, count: int | None) -> None:
    """Follow what the node does, the busiest first; Ctrl-C ends it."""
    looks = count or (None if sys.stdout.isatty() else 1)
    ask(target, lambda admin: _run(admin, interval, looks))


async def _run(admin: NodeAdmin, interval: float, looks: int | None) -> None:
    from rich.live import Live

    last, at = await look(admin), time.monotonic()
    live: Live | None = None
    try:
        while looks is None or looks > 0:
            await asyncio.sleep(interval)
            now, then = await look(admin), time.monotonic()
            shown = rated(last, now, then - at)
            last, at = now, then
            if json_wanted():
                print_json(shown)
            elif sys.stdout.isatty():
                if live is None:
                    live = Live(console=console(), auto_refresh=False, screen=looks is None)
                    live.start()
                live.update(render(shown), refresh=True)
            else:
                console().print(render(shown))
            looks = None if looks is None else looks - 1
    finally:
        if live is not None:
            live.stop()


async def look(admin: NodeAdmin) -> Row:
    """Ask for everything once."""
    from skywire_cli.shown import plain

    return {
        "summary": plain(await admin.summary()),
        "transports": [plain(one) for one in await admin.transports()],
        "loops": [plain(one) for one in await admin.loops()],
        "apps": [plain(one) for one in await admin.apps()],
    }


def rated(before: Mapping[str, Any], now: Row, seconds: float) -> Row:
    """Add `sent_per_s` and `received_per_s` to transports and loops, in bytes, and put the busiest first."""
    shown = dict(now)
    for kind, key in (("transports", "transport_id"), ("loops", "loop_id")):
        old = {row[key]: row for row in before[kind]}
        rows = [{**row, **_rates(old.get(row[key], row), row, seconds)} for row in now[kind]]
        shown[kind] = sorted(rows, key=lambda row: -(row["sent_per_s"] + row["received_per_s"]))
    forwarded = now["summary"]["bytes_forwarded"] - before["summary"]["bytes_forwarded"]
    return shown | {"forwarded_per_s": max(0.0, forwarded / seconds)}


def _rates(old: Row, new: Row, seconds: float) -> Row:
    # A counter that went back belongs to a new life of the same thing.
    return {f"{name.removeprefix('bytes_')}_per_s": max(0.0, (new[name] - old[name]) / seconds) for name in _COUNTED}


def render(shown: Row) -> RenderableType:
    """Draw one look."""
    from rich.console import Group

    summary = shown["summary"]
    head = (
        f"{summary['state']}, up for {age(summary['uptime_s'])}   transports {summary['transports_up']}/"
        f"{summary['transports']}   loops {summary['loops']}   rules {summary['rules']}   forwards "
        f"{size(shown['forwarded_per_s'])}/s"
    )
    transports = [
        (row["remote"][:8], row["type"], row["state"], _rate(row, "sent"), _rate(row, "received"), size(row["queued"]))
        for row in shown["transports"][:MAX_ROWS]
    ]
    loops = [
        (row["loop_id"][:8], row["app"], row["state"], _rate(row, "sent"), _rate(row, "received"), _round_trip(row))
        for row in shown["loops"][:MAX_ROWS]
    ]
    apps = [
        (row["name"], row["state"], age(row["since_s"]), row["pid"] or "", row["loops"], row["restarts"])
        for row in shown["apps"][:MAX_ROWS]
    ]
    return Group(
        head,
        *_reasons(summary["reasons"]),
        table("transports", ("to", "type", "state", ">sends", ">receives", ">queued"), transports),
        table("loops", ("loop", "app", "state", ">sends", ">receives", ">round trip"), loops),
        table("apps", ("app", "state", "for", ">pid", ">loops", ">restarts"), apps),
    )


def _reasons(reasons: Sequence[str]) -> list[str]:
    return [f"  - {reason}" for reason in reasons]


def _rate(row: Row, name: str) -> str:
    return f"{size(row[f'{name}_per_s'])}/s"


def _round_trip(row: Row) -> str:
    return f"{row['round_trip_us'] / 1000:.1f} ms" if row["round_trip_us"] else ""
