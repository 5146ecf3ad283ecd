"""`skywire testnet status`: every process, and every node as `skywire status` would judge it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from skywire_common.errors import Failure

from skywire_cli.disk import shortage
from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import console, json_wanted, print_json, table
from skywire_cli.status import judged
from skywire_cli.target import CONFIG_FILE, directory_option
from skywire_cli.testnet.state import Kind, ServiceState, State, Status, load

Row = dict[str, Any]
# By the nodes' names; None for one that does not answer.
Summaries = dict[str, Row | None]


@click.command(cls=JsonCommand)
@directory_option
def status(directory: Path) -> int:
    """Show what runs; exit code 3 if nothing does, 4 if a process is not there or a node is not READY."""
    state = load(directory)
    if state is None or not state.running:
        raise CliError("NO_TESTNET", f"no testnet runs in {directory}", "skywire testnet up")
    summaries = asyncio.run(_summaries(state))
    state = now(state, summaries)
    if json_wanted():
        print_json({**state.document(), "summaries": summaries})
    else:
        _print(state, summaries)
    return Exit.OK if state.status is Status.READY else Exit.NOT_READY


async def _summaries(state: State) -> Summaries:
    """Ask every node at once; its state and reasons are those of `skywire status`."""
    from skywire_cli.admin import NodeAdmin
    from skywire_cli.shown import plain

    async def ask(node: ServiceState) -> Row | None:
        async with NodeAdmin(node.socket) as admin:
            try:
                summary = plain(await admin.summary())
                apps = [plain(one) for one in await admin.apps()]
                transports = [plain(one) for one in await admin.transports()]
            except Failure:
                return None
        said, reasons = judged(summary, apps, transports, shortage(Path(node.log).parent / CONFIG_FILE))
        return summary | {"state": said, "reasons": reasons}

    nodes = [node for node in state.nodes if "admin" in node.interfaces]
    answers = await asyncio.gather(*map(ask, nodes))
    return {node.name: answer for node, answer in zip(nodes, answers, strict=True)}


def now(state: State, summaries: Summaries) -> State:
    """Return the state as it is now: the file may be a moment older than a death."""
    services = []
    for service in state.services:
        said = summaries.get(service.name)
        if service.process is not None and not service.process.alive:
            service = replace(service, status=Status.FAILED, reason="it is gone", process=None)
        if service.kind is Kind.NODE:
            service = replace(service, links_up=min(said["transports_up"], service.links) if said is not None else 0)
        services.append(service)
    status = state.status
    if status is Status.READY and any(service.status is Status.FAILED for service in services):
        status = Status.FAILED
    elif status is Status.READY and any(said is None or said["state"] != "READY" for said in summaries.values()):
        status = Status.DEGRADED
    return replace(state, status=status, services=tuple(services))


def _print(state: State, summaries: Summaries) -> None:
    from skywire_cli.testnet.view import render

    out = console()
    out.print(render(state))
    rows: list[tuple[object, ...]] = []
    for name, said in summaries.items():
        if said is None:
            rows.append((name, "does not answer", "", "", "", "", ""))
        else:
            state_text = "; ".join((said["state"], *said["reasons"]))
            links, apps = f"{said['transports_up']} of {said['transports']}", f"{said['apps_ready']} of {said['apps']}"
            rows.append((name, state_text, links, apps, said["loops"], said["rules"], said["packets_forwarded"]))
    out.print(table("nodes", ("node", "says", "transports up", "apps ready", ">loops", ">rules", ">forwarded"), rows))
