"""A local SOCKS5 proxy whose connections leave the network at another node.

    skywire-socksproxy-client KEY                            on 127.0.0.1:1080, by the socksproxy of node KEY
    curl --proxy socks5h://127.0.0.1:1080 https://example.org

CONNECT and UDP ASSOCIATE. All connections share one loop; each has its own windows there, so none holds up another.
"""

from __future__ import annotations

from pathlib import Path

import click
from skywire_common.errors import DecodeError, LocalError

from skywire_apps.identity import identity
from skywire_apps.limits import max_connections
from skywire_apps.listener import parse_listen, parse_remote, read_secret
from skywire_apps.options import run
from skywire_apps.report import Report
from skywire_apps.socks import Login
from skywire_apps.socks_local import SocksConfig, SocksProxy

NAME, VERSION = "socksproxy-client", "1.0"
EXIT_PORT = 3


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.argument("remote", metavar="KEY[:PORT]")
@click.option("--listen", default="127.0.0.1:1080", show_default=True, metavar="HOST:PORT", help="Port 0: any.")
@click.option("--user", help="Let in only programs that know this user and the password.")
@click.option("--password-file", type=click.Path(path_type=Path), help="Its first line is the password.")
@max_connections()
@click.option("--idle", default=3_600.0, show_default=True, type=click.FloatRange(0), help="Seconds without a byte.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write where it listens there, as JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main(
    remote: str,
    listen: str,
    user: str | None,
    password_file: Path | None,
    max_connections: int,
    idle: float,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run the app."""
    if (user is None) != (password_file is None):
        raise click.UsageError("--user and --password-file go together")
    try:
        parse_listen(listen)
        addr = parse_remote(remote, EXIT_PORT)
        login = Login(user.encode(), read_secret(password_file)) if user and password_file else None
    except (DecodeError, LocalError) as error:
        raise click.UsageError(str(error)) from error
    report = Report(as_json, output)
    proxy = SocksProxy(SocksConfig(addr, listen, login, max_connections, idle), report)
    run(NAME, report, proxy.run(*identity(NAME, VERSION)))


if __name__ == "__main__":
    main()
