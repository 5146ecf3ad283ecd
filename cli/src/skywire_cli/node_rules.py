"""`skywire node rules`: list and remove routing rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from skywire_common.packet import MAX_ROUTE_ID

from skywire_cli.asking import ask, done, show
from skywire_cli.failures import CliError
from skywire_cli.lazy import ListGroup
from skywire_cli.output import age, route_id, size
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire_cli.admin import NodeAdmin

_RULES_AT_ONCE = 10_000  # what the node takes in one call
_MOST_DIGITS = 10  # of MAX_ROUTE_ID in decimal
# Eight digits as the list prints them: fewer, or more, may be a decimal number, which could name another rule.
_ID = re.compile(r"[0-9a-fA-F]{8}|0[xX][0-9a-fA-F]{1,8}", re.ASCII)


@click.group(cls=ListGroup)
def rules() -> None:
    """List and remove routing rules."""


@rules.command("list")
@target_options
def list_rules(target: Target) -> None:
    """List the routing rules of the node."""
    from skywire_cli.shown import rule

    show(
        [{"id": route_id(item.route_id), **rule(item)} for item in ask(target, lambda admin: admin.rules())],
        "rules",
        {
            "route id": lambda row: row["id"],
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
    """Remove rules by their ROUTE_IDS, or by ranges FIRST-LAST of them, ends included.

    An id is its 8 hex digits as they are listed (`id` of --json), or 0x and its hex digits; never a decimal number.
    Their loops find another way or close. If one of them names no rule, none is removed.
    """
    named = [(text, _range(text)) for text in route_ids]

    async def remove(admin: NodeAdmin) -> int:
        # Ranges are sparse: what they hold is asked for, not counted up.
        there = [rule.route_id for rule in await admin.rules()]
        if doubtful := [route_id(number) for text, _ in named for number in _decimals(text) if number in there]:
            hint = f"nothing was removed: name it {', '.join(doubtful)}, or write 0x before hex digits"
            raise CliError("USAGE", f"{' '.join(route_ids)}: hex digits, or the decimal number of a rule?", hint)
        empty = [text for text, (first, last) in named if not any(first <= number <= last for number in there)]
        if empty:
            raise CliError(
                "NOT_FOUND",
                f"there is no rule {', '.join(empty)}",
                "nothing was removed; `skywire node rules` lists them",
            )
        chosen = [number for number in there if any(first <= number <= last for _, (first, last) in named)]
        parts = (chosen[at : at + _RULES_AT_ONCE] for at in range(0, len(chosen), _RULES_AT_ONCE))
        return sum([await admin.drop_rules(part) for part in parts])

    removed = ask(target, remove)
    done({"removed": removed}, f"{removed} removed")


rules.add_command(remove_rules, "drop")  # its first name


def _range(text: str) -> tuple[int, int]:
    ends = [_ID.fullmatch(part) for part in text.split("-")]
    if not 1 <= len(ends) <= 2 or None in ends:
        said = f"{text}: a route id is its 8 hex digits as listed, or 0x and its hex digits; a range is FIRST-LAST"
        raise click.BadParameter(f"{said}{_meant(text)}")
    first, *_, last = [int(end[0], 16) for end in ends if end is not None] * 2
    if first > last:
        raise click.BadParameter(f"{text}: the last before the first")
    return first, last


def _decimals(text: str) -> set[int]:
    """Return what the ends of a range would be as decimal numbers, which never begin with 0."""
    return {int(end) for end in text.split("-") if end.isascii() and end.isdecimal() and not end.startswith("0")}


def _meant(text: str) -> str:
    """Name the id that a decimal number, the `route_id` of --json, is."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else MAX_ROUTE_ID + 1
    return f"; the decimal number {text} is {route_id(number)}" if number <= MAX_ROUTE_ID else ""
