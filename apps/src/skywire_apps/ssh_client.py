"""The way to the ssh of other nodes for the OpenSSH of this machine: ssh, scp, sftp, forwarded ports.

skywire-ssh-client                          what the node starts; listens on a socket that is its user's alone
skywire-ssh-client ssh KEY [COMMAND...]     from a terminal, as all of these
skywire-ssh-client scp FILE KEY:FOLDER
skywire-ssh-client proxy KEY                for ssh_config: ProxyCommand skywire-ssh-client proxy %h:%p
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from skywire_apps.limits import max_connections

NAME, VERSION = "ssh-client", "1.0"
SSH_PORT = 2
SOCKET = Path("~/.skywire-ssh.sock")
KNOWN_HOSTS = "~/.skywire-known-hosts"
MAX_LINE = 4_096
# OpenSSH's own exit code when there is no connection.
EXIT_UNREACHED = 255
CHUNK = 64 << 10

_socket = click.option(
    "--socket",
    "place",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    envvar="SKYWIRE_SSH_SOCKET",
    help="Where the app that the node started listens.",
)


@click.group(help=(__doc__ or "").partition("\n")[0], invoke_without_command=True)
@_socket
@max_connections(64)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
@click.pass_context
def main(context: click.Context, place: Path, max_connections: int, as_json: bool) -> None:
    """Run the app."""
    if context.invoked_subcommand is None:
        from skywire_apps.identity import identity
        from skywire_apps.options import run
        from skywire_apps.report import Report
        from skywire_apps.ssh_local import listen_for_ssh

        report = Report(as_json, None)
        run(NAME, report, listen_for_ssh(identity(NAME, VERSION), place.expanduser(), max_connections, report))


@main.command()
@click.argument("remote", metavar="KEY[:PORT]")
@_socket
def proxy(remote: str, place: Path) -> None:
    """Join standard input and output to the ssh of a node; what OpenSSH's ProxyCommand wants."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
        try:
            way.connect(str(place.expanduser()))
            way.sendall((remote if ":" in remote else f"{remote}:{SSH_PORT}").encode() + b"\n")
            answer, rest = _answer(way)
        except OSError as error:
            why = f"no way to the node: {place}: {error.strerror or error}"
            _fail(f"{why}; start the app: skywire node apps start {NAME}")
        if answer:
            _fail(answer)
        _join(way, rest)


def _program(program: str) -> None:
    @main.command(program, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
    @_socket
    @click.option("--port", default=SSH_PORT, show_default=True, type=click.IntRange(1, 0xFFFF), help="In place of -p.")
    @click.argument("args", nargs=-1, type=click.UNPROCESSED)
    def command(place: Path, port: int, args: tuple[str, ...]) -> None:
        found = shutil.which(program)
        if found is None:
            _fail(f"there is no {program} on this machine: install OpenSSH's client")
        said = options(place.expanduser().absolute(), Path(KNOWN_HOSTS).expanduser(), port)
        os.execv(found, [program, *said, *args])  # noqa: S606 (no shell)

    command.help = f"Run OpenSSH's {program}; hosts are node keys; --socket and --port come first."


for _name in ("ssh", "scp", "sftp"):
    _program(_name)


def options(place: Path, known_hosts: Path, port: int) -> list[str]:
    """Return OpenSSH's options for hosts that are nodes.

    Which node answers is proven by the network, so a host key that is seen first is taken.
    """
    way = shlex.join([sys.executable, "-m", "skywire_apps.ssh_client", "proxy", "--socket", str(place)])
    said = {
        "ProxyCommand": way.replace("%", "%%") + " %h:%p",
        "Port": str(port),
        "StrictHostKeyChecking": "accept-new",
        # OpenSSH would take the user's home for ~, whatever HOME says; a path with spaces wants quotes.
        "UserKnownHostsFile": f'"{known_hosts}"'.replace("%", "%%"),
        "LogLevel": "ERROR",
    }
    return [word for name, value in said.items() for word in ("-o", f"{name}={value}")]


def _answer(way: socket.socket) -> tuple[str, bytes]:
    """Read the app's answer: an error, empty if all is well, and what came behind it."""
    data = b""
    while b"\n" not in data and len(data) < MAX_LINE:
        part = way.recv(MAX_LINE)
        if not part:
            return "the app closed the connection: skywire logs says why", b""
        data += part
    line, _, rest = data.partition(b"\n")
    try:
        return str(json.loads(line)["error"]), rest
    except (ValueError, KeyError, TypeError):
        return "what listens there is no ssh-client", b""


def _join(way: socket.socket, rest: bytes) -> None:
    def typed() -> None:
        # The other direction says how it ended.
        with suppress(OSError):
            while part := os.read(0, CHUNK):
                way.sendall(part)
            way.shutdown(socket.SHUT_WR)

    threading.Thread(target=typed, daemon=True).start()
    with suppress(OSError):
        said = rest or way.recv(CHUNK)
        while said:
            while said:
                said = said[os.write(1, said) :]
            said = way.recv(CHUNK)


def _fail(error: str) -> NoReturn:
    click.echo(f"{NAME}: {error}", err=True)
    # At once: a thread may wait in a read of standard input.
    sys.stderr.flush()
    os._exit(EXIT_UNREACHED)


if __name__ == "__main__":
    main()
