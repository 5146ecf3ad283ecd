"""`skywire node rules`: list and remove routing rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skywire_cli.asking import ask, done, show
from skywire_cli.failures import CliError
from skywire_cli.lazy import ListGroup
from skywire_cli.output import age, size
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire_cli.admin import NodeAdmin

_RULES_AT_ONCE = 10_000  # what the node takes in one call
MAX_ROUTE_ID = 0xFFFFFFFF


@click.group(cls=ListGroup)
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
    done({"removed": removed}, f"{removed} removed")


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
