"""`skywire loop`: follow one loop, hop by hop and through its life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from skywire_common.errors import ErrorCode, Failure

from skywire_cli.asking import ask
from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import JsonGroup
from skywire_cli.output import console, json_wanted, print_json, route_id, size, table, visible
from skywire_cli.target import Target, target_options

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.admin import NodeAdmin

MAX_SECONDS = 10.0
_ID_SHOWN, _IDS_SHOWN = 8, 8
_LISTS = "`skywire node loops` lists those that are open, with --all those that are over too: `skywire loop explain ID`"


@click.group(cls=JsonGroup)
def loop() -> None:
    """Follow one loop: trace its route, explain its life."""


async def find(admin: NodeAdmin, prefix: str) -> pb.Loop:
    """Return the node's loop whose id starts so, without a prefix its only one; raises CliError."""
    found: list[pb.Loop] = [item for item in await admin.loops() if item.loop_id.hex().startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    such = f" whose id starts with {prefix}" if prefix else ""
    if not found:
        raise CliError("NOT_FOUND", f"the node has no loop{such}", _LISTS)
    ids = ", ".join(item.loop_id.hex()[:_ID_SHOWN] for item in found[:_IDS_SHOWN])
    raise CliError("NOT_FOUND", f"the node has {len(found)} loops{such}", f"name one of them: {ids}")


@loop.command()
@target_options
@click.argument("loop_id", default="")
@click.option("--standby", is_flag=True, help="Trace the pair of routes held ready, not the one in use.")
@click.option(
    "--timeout", "seconds", type=click.FloatRange(0.1, MAX_SECONDS), default=2.0, show_default=True, help="In seconds."
)
def trace(target: Target, loop_id: str, standby: bool, seconds: float) -> int:
    """Ask every hop from the node to the other end of the loop LOOP_ID; exit code 1 if the way stops before it.

    LOOP_ID is its id or enough of its first digits; a node's only loop needs none. The way back is traced from the
    node at the other end.
    """
    from skywire_cli.shown import plain

    async def question(admin: NodeAdmin) -> tuple[pb.Loop, pb.TraceLoopResponse]:
        found = await find(admin, loop_id)
        return found, await admin.trace_loop(found.loop_id, seconds, standby=standby)

    traced, answer = ask(target, question)
    if json_wanted():
        hops = [{"id": route_id(hop.route_id), **plain(hop)} for hop in answer.hops]
        of = {"loop_id": traced.loop_id.hex(), "state": traced.state, "why": traced.reason}
        print_json({**plain(answer), "hops": hops, **of})
    else:
        columns = (
            "hop",
            "node",
            "status",
            "rule",
            "out over",
            ">time",
            ">held",
            ">queued",
            ">drops",
            ">packets",
            ">idle",
        )
        why = f": {traced.reason}" if traced.reason else ""
        title = f"route of loop {traced.loop_id.hex()[:_ID_SHOWN]}, which is {traced.state}{why}"
        console().print(table(title, columns, [_hop(index, hop) for index, hop in enumerate(answer.hops)]))
        click.echo("arrived" if answer.arrived else visible(answer.reason))
        if answer.forged:
            click.echo(f"answers that were not authentic: {answer.forged}", err=True)
    return Exit.OK if answer.arrived else Exit.CHECK_FAILED


def _hop(index: int, hop: pb.TracedHop) -> tuple[object, ...]:
    from uuid import UUID

    return (
        index,
        hop.public_key.hex()[:8],
        hop.status,
        route_id(hop.route_id),
        UUID(bytes=hop.transport_out) if hop.transport_out else "",
        f"{hop.round_trip_us} µs" if index else "",
        f"{hop.held_us} µs" if index else "",
        size(hop.queued),
        hop.drops,
        hop.packets,
        f"{hop.idle_ms} ms",
    )


@loop.command()
@target_options
@click.argument("loop_id", default="")
def explain(target: Target, loop_id: str) -> None:
    """Tell the life of the loop LOOP_ID: set-ups, pauses, reroutes, resends, how it closed.

    LOOP_ID is its id, or that of one of its set-ups, or the first digits; a node's only loop needs none. Loops that are
    over are remembered a while.
    """
    from skywire_cli.shown import plain

    async def question(admin: NodeAdmin) -> pb.ExplainLoopResponse:
        try:
            return await admin.explain_loop(loop_id or (await find(admin, "")).loop_id.hex())
        except Failure as failure:
            if failure.code not in (ErrorCode.NOT_FOUND, ErrorCode.INVALID_ARGUMENT):
                raise
            known = [*await admin.loops_over(), *await admin.loops()]
            raise CliError(failure.code.value, failure.cause, _recent(known)) from failure

    story = ask(target, question)
    _judge(story)
    if json_wanted():
        print_json(plain(story))
        return
    remote = f"{story.remote.public_key.hex()[:8]}:{story.remote.port}"
    who = f"{story.app} dialled {remote}" if story.initiator else f"{remote} dialled port {story.local.port}"
    title = f"loop {story.loop_id.hex() or '(never open)'}: {who}, {story.state}"
    began = story.events[0].at_ms if story.events else 0
    rows = [
        (
            _clock(event.at_ms),
            f"+{(event.at_ms - began) / 1000:.3f} s",
            event.what,
            event.setup_id.hex()[:8],
            event.text,
        )
        for event in story.events
    ]
    console().print(table(title, ("at", ">after", "what", "set-up", ""), rows))
    if story.left_out:
        click.echo(f"events in the middle that were not kept: {story.left_out}")


def _recent(known: Sequence[pb.Loop]) -> str:
    """Return the hint that names the last loops, those that are over among them."""
    ids = ", ".join(item.loop_id.hex()[:_ID_SHOWN] for item in known[-_IDS_SHOWN:])
    return f"the last ones: {ids}; `skywire node loops --all` lists all that it remembers" if ids else "it had no loops"


def _judge(story: pb.ExplainLoopResponse) -> None:
    """Call a set-up that came second what it is: nothing failed, its loop was there already."""
    for event in story.events:
        second = story.loop_id and event.setup_id != story.loop_id and event.what == "set-up failed"
        if second and Failure.parse(event.text).code is ErrorCode.CONFLICT:
            event.what = "not needed"
            event.text = f"another set-up was faster: {event.text}"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
