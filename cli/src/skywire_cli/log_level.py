"""`skywire log-level`: what a running service logs, over its owner's socket; the same for every service."""

from __future__ import annotations

import asyncio

import click

from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json
from skywire_cli.target import Target, target_options

LEVELS = ("debug", "info", "warning", "error")
TIMEOUT = 5.0


@click.command("log-level", cls=JsonCommand)
@click.argument("level", type=click.Choice(LEVELS), required=False)
@target_options
def log_level(level: str | None, target: Target) -> None:
    """Say what a service logs, or have it log from LEVEL up until it is told otherwise or starts anew.

    --socket names the owner's socket of any service: interfaces.admin in its configuration.
    """
    found = asyncio.run(_ask(target, level))
    if json_wanted():
        print_json({"level": found})
    else:
        click.echo(found)


async def _ask(target: Target, level: str | None) -> str:
    from skywire.common.v1 import process_pb2 as pb
    from skywire_common.rpc.client import RpcChannel

    channel = RpcChannel(f"unix:{target.admin_socket()}", None, None)
    service = "/skywire.common.v1.Process/"
    try:
        if level is None:
            asked = await channel.call(
                f"{service}GetLogLevel", pb.GetLogLevelRequest(), pb.GetLogLevelResponse, timeout=TIMEOUT, signed=False
            )
            return asked.level
        changed = await channel.call(
            f"{service}SetLogLevel",
            pb.SetLogLevelRequest(level=level),
            pb.SetLogLevelResponse,
            timeout=TIMEOUT,
            signed=False,
        )
        return changed.level
    finally:
        await channel.close()
