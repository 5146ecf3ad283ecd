"""`skywire health`: ask a service over gRPC whether it serves; how containers are looked after, without a shell."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json
from skywire_cli.paths import NamedPath
from skywire_cli.target import check_address

if TYPE_CHECKING:
    from skywire_common.rpc.client import RpcChannel

# A container's own: where its service answers probes.
ADDRESS_VARIABLE = "SKYWIRE_INTERFACES__HEALTH"
TIMEOUT = 5.0
AGAIN_S = 0.2
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- not to bind

file_option = NamedPath(dir_okay=False, exists=True)


@click.command(cls=JsonCommand)
@click.argument("address", envvar=ADDRESS_VARIABLE)
@click.option("--service", default="", help="One of its services, or `alive`: the process [default: all of them].")
@click.option("--wait", type=click.FloatRange(0), default=0.0, help="Ask again for so many seconds until it serves.")
@click.option("--ca", type=file_option, help="PEM file of the authority of its certificate: TLS.")
@click.option("--certificate", type=file_option, help="PEM file of our own certificate.")
@click.option("--key", type=file_option, help="PEM file of its key, mode 0600.")
@click.option("--server-name", default="", help="The name in its certificate, if that is not the address's.")
def health(
    address: str,
    service: str,
    wait: float,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    server_name: str,
) -> None:
    """Ask the service at ADDRESS, HOST:PORT, whether it serves [SKYWIRE_INTERFACES__HEALTH].

    Exit code 0 if it does, 4 if it runs and does not, 3 if nobody listens, 6 if it does not answer in time.
    """
    from skywire_common.runtime.config import TlsFiles

    check_address(address)
    host, _, port = address.rpartition(":")
    place = f"{_EVERYWHERE.get(host, host)}:{port}"
    tls = TlsFiles(certificate=certificate, key=key, ca=ca) if ca or certificate or key else None
    asyncio.run(_ask(place, service, wait, tls, server_name))
    if json_wanted():
        print_json({"address": place, "service": service, "status": "SERVING"})
    else:
        click.echo("SERVING")


async def _ask(address: str, service: str, wait: float, tls: object, server_name: str) -> None:
    from skywire_common.errors import Failure
    from skywire_common.rpc.client import RpcChannel

    until = time.monotonic() + wait
    channel = RpcChannel(address, None, None, tls=tls, server_name=server_name)  # type: ignore[arg-type]
    try:
        while True:
            try:
                await _check(channel, service)
            except (Failure, CliError):
                if time.monotonic() >= until:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return
    finally:
        await channel.close()


async def _check(channel: RpcChannel, service: str) -> None:
    from skywire_common.rpc.probe import state_of

    state = await state_of(channel, service, TIMEOUT)
    if state != "SERVING":
        raise CliError(state, f"{service or 'the service'} at {channel.address} says {state}")
