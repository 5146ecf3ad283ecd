"""`skywire node`: look into a node and steer it, over its NodeAdmin."""

from __future__ import annotations

import click

from skywire_cli.asking import ask, done
from skywire_cli.failures import Exit
from skywire_cli.lazy import Lazy, LazyGroup
from skywire_cli.log_level import LEVELS
from skywire_cli.output import age, console, json_wanted, print_json, size, table
from skywire_cli.target import Target, target_options

_PARTS = {
    "apps": Lazy("skywire_cli.node_apps", "apps", "List, start, stop, add and remove apps."),
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


@node.command("log-level")
@target_options
@click.argument("level", type=click.Choice(LEVELS))
def log_level(target: Target, level: str) -> None:
    """Log from LEVEL up from now on."""
    ask(target, lambda admin: admin.set_log_level(level))
    done({"level": level}, f"log level {level}")
