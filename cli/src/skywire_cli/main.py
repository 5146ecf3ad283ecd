"""The `skywire` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from skywire_common.errors import SkywireError

from skywire_cli.failures import CliError, Exit, explain
from skywire_cli.lazy import Lazy, LazyGroup
from skywire_cli.output import print_error

_COMMANDS = {
    "app-conformance": Lazy(
        "skywire_cli.conformance.command", "app_conformance", "Try an app in any language, playing the node."
    ),
    "completion": Lazy("skywire_cli.completion", "completion", "Have a shell complete this command's words."),
    "config": Lazy("skywire_cli.config", "config", "Make, check and show the configuration of a service."),
    "demo": Lazy("skywire_cli.demo.command", "demo", "Four nodes, a file and 1,000 pings through them, checked."),
    "discovery": Lazy("skywire_cli.discovery", "discovery", "Show what the transport discovery knows, and how it is."),
    "doctor": Lazy("skywire_cli.doctor.command", "doctor", "Find what is wrong with a node, and repair it."),
    "health": Lazy("skywire_cli.health", "health", "Ask a service over gRPC whether it serves."),
    "identities": Lazy("skywire_cli.identities", "identities", "Make the keys of a whole deployment."),
    "install-service": Lazy("skywire_cli.install_service", "install_service", "Write a systemd unit for a service."),
    "keygen": Lazy("skywire_cli.keygen", "keygen", "Make a secret key."),
    "log-level": Lazy("skywire_cli.log_level", "log_level", "Say or change what a running service logs."),
    "logs": Lazy("skywire_cli.logs", "logs", "Show a node's log, or what an app printed."),
    "loop": Lazy("skywire_cli.loop", "loop", "Follow one loop: trace its route, explain its life."),
    "node": Lazy("skywire_cli.node", "node", "Look into a node and steer it."),
    "route": Lazy("skywire_cli.route", "route", "Find routes."),
    "status": Lazy("skywire_cli.status", "status", "Say on one screen whether a node is READY, and if not why."),
    "testnet": Lazy("skywire_cli.testnet.command", "testnet", "Run a whole network on this machine."),
    "top": Lazy("skywire_cli.top", "top", "Follow what a node does, live."),
    "vectors": Lazy("skywire_cli.vectors", "vectors", "Compare this code with golden bytes."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skywire-cli", prog_name="skywire")
def cli() -> None:
    """Run and look into a Skywire network."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing that a user can cause ends in a traceback."""
    # An error may come before the options are parsed, so the line itself says whether JSON is wanted.
    as_json = "--json" in arguments
    try:
        status = cli.main(args=list(arguments), prog_name="skywire", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        if as_json:
            print_error(CliError("USAGE", "a command is missing", "--help lists them"), as_json)
        else:
            click.echo(error.message)  # the help itself: whoever gives no word wants to know what there is
        return Exit.USAGE
    except (CliError, click.ClickException, SkywireError, OSError, click.Abort, KeyboardInterrupt) as error:
        shown = _shown(error)
        print_error(shown, as_json)
        return shown.status
    return status if isinstance(status, int) else Exit.OK


def _shown(error: BaseException) -> CliError:
    """Return any expected exception as the user sees it."""
    if isinstance(error, CliError):
        return error
    if isinstance(error, click.UsageError):
        hint = f"try `{error.ctx.command_path} --help`" if error.ctx is not None else ""
        return CliError("USAGE", error.format_message(), hint)
    if isinstance(error, click.ClickException):
        return CliError("FILE", error.format_message())
    if isinstance(error, SkywireError | OSError):
        return explain(error)
    return CliError("INTERRUPTED", "interrupted")


def main() -> None:
    """Run the command line of this process; the console script comes here by `skywire_cli.entry`."""
    sys.exit(run(sys.argv[1:]))
