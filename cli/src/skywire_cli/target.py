"""Which node a command speaks to: `--socket`, the environment, or a node of a testnet by its number."""

from __future__ import annotations

import errno
import functools
import os
import socket as socketlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from skywire_common.errors import DecodeError
from skywire_common.keys import parse_host_port

from skywire_cli import units
from skywire_cli.failures import CliError
from skywire_cli.paths import NamedPath
from skywire_cli.testnet.names import node_number

if TYPE_CHECKING:
    from skywire_common.runtime.config import TlsFiles

REMOTE_VARIABLE = "SKYWIRE_ADMIN_REMOTE"
TOKEN_VARIABLE = "SKYWIRE_ADMIN_TOKEN_FILE"  # noqa: S105 - a variable's name
CA_VARIABLE = "SKYWIRE_ADMIN_CA"
SOCKET_VARIABLE = "SKYWIRE_ADMIN"
DIRECTORY_VARIABLE = "SKYWIRE_TESTNET"
HOME_VARIABLE = "SKYWIRE_HOME"
DISCOVERY_VARIABLE = "SKYWIRE_DISCOVERY"
SOCKET_FILE = "admin.sock"
CONFIG_FILE = "config.json"
DEFAULT_DIRECTORY = Path("skywire-testnet")

_PROBE_S = 1.0

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Remote(NamedTuple):
    """A node's interfaces.admin_remote: host:port, the file with its token, the authorities that are believed."""

    address: str
    token_file: Path | None
    ca: Path | None


class Target(NamedTuple):
    """What the options said; None where they said nothing."""

    socket: Path | None
    number: int | None
    directory: Path
    remote: Remote | None = None

    @property
    def said(self) -> str:
        """Return the options that name the same node in another command, each after a blank."""
        directory = self.directory if self.directory != DEFAULT_DIRECTORY else None
        options = (("--socket", self.socket), ("--node", self.number), ("--dir", directory))
        return "".join(f" {name} {value}" for name, value in options if value is not None)

    def place(self) -> tuple[str, str, TlsFiles | None]:
        """Return address, token and TLS of a remote node; raises CliError, also for a token that others could read."""
        from skywire_common.rpc import token
        from skywire_common.runtime.config import TlsFiles, is_loopback

        assert self.remote is not None  # noqa: S101 - the caller looked
        address, file, ca = self.remote
        if file is None:
            raise CliError(
                "USAGE", f"a node at {address} wants a token", f"name its file: --token-file, {TOKEN_VARIABLE}"
            )
        tls = None if is_loopback(address) and ca is None else TlsFiles(ca=ca)
        return address, token.load(file), tls

    def admin_socket(self) -> Path:
        """Return the socket of NodeAdmin; raises CliError if nothing says which."""
        if self.remote is not None:
            hint = "run it there; `skywire node`, `status`, `top` and `loop` work from anywhere"
            raise CliError("USAGE", "this needs the machine that the node runs on, not --remote", hint)
        if self.socket is not None and self.number is None:
            if self.socket.exists() and not self.socket.is_socket():
                raise click.BadParameter(f"{self.socket} is no socket", param_hint="--socket")
            return self.socket
        from skywire_cli.testnet.state import load

        state = load(self.directory)
        if state is None and self.number is None and home().is_dir():
            return home() / SOCKET_FILE
        if state is None and self.number is None and self.directory == DEFAULT_DIRECTORY:
            raise _nobody()
        if state is None:
            raise CliError("NO_TESTNET", f"no testnet runs in {self.directory}", "skywire testnet up starts one")
        return state.node(self.number or 1).socket

    def config_file(self) -> Path | None:
        """Return the configuration of the node, if it is a testnet's or the user's own."""
        from skywire_cli.testnet.state import load

        state = load(self.directory)
        if self.socket is not None and self.number is None:
            found = self.socket.parent / CONFIG_FILE
        elif state is not None:
            found = self.directory / state.node(self.number or 1).name / CONFIG_FILE
        else:
            found = home() / CONFIG_FILE
        return found if found.exists() else None


def start_line(target: Target) -> str:
    """Return the line that starts a node which does not run."""
    from skywire_cli.testnet.state import load

    state = load(target.directory) if target.socket is None or target.number is not None else None
    config = target.config_file()
    if state is not None and state.running:
        where = "" if target.directory == DEFAULT_DIRECTORY else f" --dir {target.directory}"
        return f"skywire testnet restart {state.node(target.number or 1).name}{where}"
    if state is not None:
        return f"skywire testnet down --dir {target.directory}, then skywire testnet up again"
    unit = next(
        (unit for unit in units.found("node") if config is not None and unit.config() == config.absolute()), None
    )
    if unit is not None:
        return f"{unit.control} start {unit.path.stem}"
    if target.admin_socket() == home() / SOCKET_FILE:
        return "skywire-node"
    return f"skywire-node --config {config or 'FILE'}"


def not_running(target: Target) -> CliError:
    """Return the error for a node whose socket nobody listens on, with the line that starts it."""
    socket = target.admin_socket()
    message = f"the node at {socket} is not running"
    hint = f"start it with: {start_line(target)}"
    if not socket.exists() and target.config_file() is None:
        hint += f"; there is no such socket: if the node runs, name its own by --socket or {SOCKET_VARIABLE}"
    return CliError("UNAVAILABLE", message, hint)


def silent(target: Target) -> CliError:
    """Return the error for a node that listens on its socket and does not answer."""
    message = f"the node at {target.admin_socket()} listens, and does not answer"
    hint = f"it is frozen or very busy: `skywire logs{target.said}` shows its last words; start it anew"
    return CliError("DEADLINE", message, hint)


def no_discovery() -> CliError:
    """Return the error for a discovery that nobody named."""
    hint = f"name its address: --discovery HOST:PORT, or {DISCOVERY_VARIABLE}; a testnet's is found by --dir"
    return CliError("NO_DISCOVERY", "no discovery is named, and no testnet runs here", hint)


def _nobody() -> CliError:
    """Return the error where nothing says which node is meant and the user has none of their own."""
    hint = f"name its socket by --socket or {SOCKET_VARIABLE}; a first node of your own: skywire-node"
    configs = [config for config in (unit.config() for unit in units.found("node")) if config is not None]
    if configs:
        which = f"interfaces.admin in {configs[0]}"
        hint = f"name the socket of the node that systemd runs, {which}, by --socket or {SOCKET_VARIABLE}"
    return CliError("NOT_RUNNING", f"no node is named, no testnet runs here, and there is no node in {home()}", hint)


def listening(target: Target) -> Path:
    """Return the node's socket; raises CliError unless a process listens there."""
    socket = target.admin_socket()
    if not listens(socket):
        raise not_running(target)
    return socket


def listens(socket: Path) -> bool:
    """Say whether a process listens on a unix socket."""
    with closing(socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM)) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(socket))
        except TimeoutError:
            return True  # somebody does, and is busy
        except PermissionError as error:
            raise CliError(
                "FILE", f"{socket}: {error.strerror}", "it is for the user alone who runs the node"
            ) from error
        except OSError as error:
            return error.errno == errno.EAGAIN  # so many wait already
    return True


def check_address(text: str) -> None:
    """Raise click.BadParameter unless a text is HOST:PORT."""
    try:
        parse_host_port(text)
    except DecodeError as error:
        raise click.BadParameter(str(error)) from error


def home() -> Path:
    """Return the directory of the user's own node, as `skywire-node` chooses it at its first start."""
    return Path(os.environ.get(HOME_VARIABLE) or "~/.skywire").expanduser() / "node"


def directory_option(command: _Command) -> _Command:
    """Add `--dir`, the testnet's directory."""
    return click.option(
        "--dir",
        "directory",
        type=NamedPath(file_okay=False),
        envvar=DIRECTORY_VARIABLE,
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help=f"Directory of the testnet [{DIRECTORY_VARIABLE}].",
    )(command)


class NodeNumber(click.ParamType[int]):
    """A testnet's node on the command line: its number or its name."""

    name = "NODE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read 2 or node2."""
        number = value if isinstance(value, int) else node_number(str(value))
        if not number:
            self.fail(f"{value} is no node of a testnet, which is named as 2 or node2", param, ctx)
        return number


def target_options(command: _Command) -> _Command:
    """Add `--socket`, `--node` and `--dir`; the command takes them as one `target`."""

    @functools.wraps(command)  # with the options and arguments that it has already
    def with_target(**options: Any) -> Any:
        return command(target=_target(options), **options)

    named = click.option("--node", "number", type=NodeNumber(), help="A testnet's node, as 2 or node2 [1].")
    socket = click.option(
        "--socket",
        type=NamedPath(dir_okay=False),
        envvar=SOCKET_VARIABLE,
        help=f"NodeAdmin's unix socket [{SOCKET_VARIABLE}].",
    )
    remote = click.option(
        "--remote",
        metavar="HOST:PORT",
        envvar=REMOTE_VARIABLE,
        help=f"A node elsewhere: its interfaces.admin_remote; TLS unless on loopback [{REMOTE_VARIABLE}].",
    )
    bearer = click.option(
        "--token-file",
        type=NamedPath(dir_okay=False),
        envvar=TOKEN_VARIABLE,
        help=f"The token of --remote, mode 0600 [{TOKEN_VARIABLE}].",
    )
    ca = click.option(
        "--ca",
        type=NamedPath(dir_okay=False),
        envvar=CA_VARIABLE,
        help=f"PEM file of the authorities to believe [default: the system's; {CA_VARIABLE}].",
    )
    return socket(named(directory_option(remote(bearer(ca(with_target))))))  # type: ignore[return-value]


def of_context(context: click.Context) -> Target:
    """Return the target of a line that is not complete yet."""
    return _target(dict(context.params))


def _target(options: dict[str, Any]) -> Target:
    """Take the target's options out of all of a command's."""
    socket, number = options.pop("socket", None), options.pop("number", None)
    directory = options.pop("directory", None) or DEFAULT_DIRECTORY
    address, file, ca = (options.pop(name, None) for name in ("remote", "token_file", "ca"))
    # What stands on the line goes over the environment.
    elsewhere = address if socket is None and number is None else None
    return Target(socket, number, directory, Remote(elsewhere, file, ca) if elsewhere else None)
