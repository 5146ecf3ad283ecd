"""`skywire completion SHELL`: the lines that make a shell complete this command's words."""

from __future__ import annotations

import click

from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SKYWIRE_COMPLETE"
_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/skywire.fish"}


@click.command(cls=JsonCommand)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what SHELL needs to complete commands, options, and the apps, loops and transports of a node.

    bash and zsh: `eval "$(skywire completion bash)"` in ~/.bashrc or ~/.zshrc. fish: `skywire completion fish >
    ~/.config/fish/completions/skywire.fish`.
    """
    from click.shell_completion import get_completion_class

    from skywire_cli.main import cli

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - one of click's own
    script = made(cli, {}, "skywire", VARIABLE).source()
    if json_wanted():
        print_json({"shell": shell, "file": _FILES[shell], "script": script})
    else:
        click.echo(script)
