"""Groups whose commands are imported when they are run: `skywire --help` loads none of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from skywire_cli.output import json_option


class Lazy(NamedTuple):
    """Where a command lives, and its line in the help of its group."""

    module: str
    attribute: str
    help: str


class JsonCommand(click.Command):
    """A command with `--json`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(json_option())


class JsonGroup(click.Group):
    """A group with `--json`, and on each of its commands as well."""

    command_class = JsonCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(json_option())


# `@group.group()` makes a group of the same kind.
JsonGroup.group_class = JsonGroup


class ListGroup(JsonGroup):
    """A group that lists when no command is named: `skywire node rules` is `skywire node rules list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front of a line that names no command."""
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell asks which commands there are
        if not any(arg in self.commands or arg in ctx.help_option_names for arg in args):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class LazyGroup(JsonGroup):
    """A group that knows its commands by name and help only; a module that is not installed is left out."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in order: those of the table, and commands that were added as usual."""
        return sorted([*super().list_commands(ctx), *(n for n, lazy in self._lazy.items() if _installed(lazy.module))])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        if not _installed(lazy.module):
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.module}.{lazy.attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._help(ctx, name)) for name in self.list_commands(ctx)])

    def _help(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name].help
        command = super().get_command(ctx, name)
        return command.get_short_help_str() if command is not None else ""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there either
        return False
