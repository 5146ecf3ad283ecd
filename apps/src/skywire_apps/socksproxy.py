"""The exit of the SOCKS5 proxy: connects to the internet for socksproxy-client on other nodes.

    skywire-socksproxy                                      public addresses, for every node
    skywire-socksproxy --node KEY --deny '*.example.org'    for one node, without some names

Names are looked up here. Private, loopback and other special addresses are denied unless an --allow names them.
"""

from __future__ import annotations

import click
from skywire_common.errors import DecodeError

from skywire_apps.access import PUBLIC, Access
from skywire_apps.exit import Exit, ExitLimits
from skywire_apps.identity import identity
from skywire_apps.limits import max_connections, max_per_node
from skywire_apps.options import nodes, run
from skywire_apps.report import Report
from skywire_apps.socks_udp import serve_association

NAME, VERSION = "socksproxy", "1.0"


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--allow", multiple=True, default=(PUBLIC,), show_default=True, metavar="ENTRY", help="What is reached.")
@click.option("--deny", multiple=True, metavar="ENTRY", help="What is not, even if it is allowed.")
@click.option("--node", "keys", multiple=True, metavar="KEY", help="A node that may use the exit; all by default.")
@max_connections()
@max_per_node()
@click.option("--idle", default=3_600.0, show_default=True, type=click.FloatRange(0), help="Seconds without a byte.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main(
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    keys: tuple[str, ...],
    max_connections: int,
    max_per_node: int,
    idle: float,
    as_json: bool,
) -> None:
    """Run the app."""
    try:
        access = Access.parse(allow, deny)
    except DecodeError as error:
        raise click.UsageError(str(error)) from error
    report = Report(as_json, None)
    limits = ExitLimits(max_connections, max_per_node, idle)
    served = Exit(access, nodes(keys), limits, report, associate=serve_association)
    run(NAME, report, served.run(*identity(NAME, VERSION)))


if __name__ == "__main__":
    main()
