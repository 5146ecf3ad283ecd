"""A remote shell: what a terminal, scp, sftp and port forwarding of OpenSSH reach through the network.

    skywire-ssh --node KEY               for who works on node KEY, as the user that runs this node
    skywire-ssh --authorized FILE        for the nodes in FILE, one key a line, read anew for each connection

The network has proven which node is at the other end: its key is the login. Use ssh-client there.
"""

from __future__ import annotations

from pathlib import Path

import click

from skywire_apps.identity import identity
from skywire_apps.limits import max_connections
from skywire_apps.options import nodes, run
from skywire_apps.report import Report

NAME, VERSION = "ssh", "1.0"


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--node", "keys", multiple=True, metavar="KEY", help="A node whose users may log in.")
@click.option("--authorized", type=click.Path(path_type=Path), help="A file of such keys; # starts a comment.")
@click.option("--shell", type=click.Path(path_type=Path), help="The user's own by default.")
@click.option("--forwarding/--no-forwarding", default=True, show_default=True, help="Whether ports may be forwarded.")
@max_connections(64)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main(
    keys: tuple[str, ...],
    authorized: Path | None,
    shell: Path | None,
    forwarding: bool,
    max_connections: int,
    as_json: bool,
) -> None:
    """Run the app."""
    if not keys and authorized is None:
        raise click.UsageError("say who may log in: --node KEY, or --authorized FILE")
    # asyncssh takes 0.2 s to load: --help does without.
    from skywire_apps.ssh_server import ShellServer

    report = Report(as_json, None)
    server = ShellServer(nodes(keys), authorized, shell, forwarding, max_connections, report)
    run(NAME, report, server.run(*identity(NAME, VERSION)))


if __name__ == "__main__":
    main()
