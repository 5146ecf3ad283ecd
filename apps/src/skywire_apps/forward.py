"""Carry any TCP connection: from a local port here to a port on the far side.

    skywire-forward serve --target 127.0.0.1:80             the far side, on the port of the node's config
    skywire-forward listen KEY:PORT --listen 127.0.0.1:8080

All share one loop, and none holds up another. A direction that ends, ends there as well, and the other goes on.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from skywire_app import Addr, App, Failure, IncompleteRead
from skywire_common.errors import DecodeError

from skywire_apps.access import Access, parse_target
from skywire_apps.exit import Exit, ExitLimits, ask
from skywire_apps.exit_wire import Do, Refused, Request
from skywire_apps.identity import identity
from skywire_apps.limits import max_connections, max_per_node
from skywire_apps.listener import listen, parse_listen, say_listening, tcp_server
from skywire_apps.mux.trunk import Trunk
from skywire_apps.options import nodes, run
from skywire_apps.relay import explain, relay, reset
from skywire_apps.report import Report

NAME, VERSION = "forward", "1.0"


@click.group(help=(__doc__ or "").partition("\n")[0])
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main() -> None:
    """Run the app."""


@main.command()
@click.option("--target", metavar="HOST:PORT", help="Where connections go that name no target; allowed by itself.")
@click.option("--allow", multiple=True, metavar="ENTRY", help="A target that clients may name; see the docs.")
@click.option("--deny", multiple=True, metavar="ENTRY", help="One that they may not, even if it is allowed.")
@click.option("--node", "keys", multiple=True, metavar="KEY", help="A node that may connect; all if none is given.")
@max_connections()
@max_per_node()
@click.option(
    "--idle", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds without a byte; 0: any."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def serve(
    target: str | None,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    keys: tuple[str, ...],
    max_connections: int,
    max_per_node: int,
    idle: float,
    as_json: bool,
) -> None:
    """Connect to local or other ports for clients on other nodes."""
    if target is None and not allow:
        raise click.UsageError("say what clients may reach: --target HOST:PORT, or --allow ENTRY")
    try:
        own = parse_target(target) if target is not None else None
        access = Access.parse((*allow, *((target,) if target else ())), deny)
    except DecodeError as error:
        raise click.UsageError(str(error)) from error
    report = Report(as_json, None)
    served = Exit(access, nodes(keys), ExitLimits(max_connections, max_per_node, idle), report, target=own)
    run(NAME, report, served.run(*identity(NAME, VERSION)))


@main.command("listen")
@click.argument("remote", metavar="KEY:PORT")
@click.option("--listen", "place", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Local port.")
@click.option("--target", metavar="HOST:PORT", help="Which target there; without it the far side's own.")
@max_connections()
@click.option(
    "--idle", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds without a byte; 0: any."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write where it listens there, as JSON.")
def listen_command(
    remote: str, place: str, target: str | None, max_connections: int, idle: float, as_json: bool, output: Path | None
) -> None:
    """Take local connections and carry them to the forward at KEY:PORT."""
    try:
        addr = Addr.parse(remote)
        parse_listen(place)
        request = Request(Do.CONNECT, *parse_target(target)) if target is not None else Request(Do.CONNECT)
    except DecodeError as error:
        raise click.UsageError(str(error)) from error
    report = Report(as_json, output)
    run(NAME, report, _listen(identity(NAME, VERSION), addr, place, request, max_connections, idle, report))


async def _listen(
    name: tuple[str, str], remote: Addr, place: str, request: Request, most: int, idle: float, report: Report
) -> None:
    async with App.setup(*name) as app, Trunk(app, remote, report) as trunk:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            error = ""
            try:
                async with trunk.stream() as stream:
                    await ask(stream, request)
                    await relay(stream, reader, writer, idle)
            except Failure as failure:
                error = explain(failure)
            except TimeoutError:
                error = f"{remote} was not reached in time"
            except (Refused, DecodeError, IncompleteRead) as refused:
                error = f"{remote} refused: {refused}"
            if error:
                reset(writer)
                report.line(error, error=error)

        await listen(
            app,
            lambda handler: tcp_server(place, handler),
            handle,
            most,
            lambda server: say_listening(report, server, "forwarding"),
        )


if __name__ == "__main__":
    main()
