"""How a command asks a node and shows what it says: one question, one connection, a table or JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_cli.failures import CliError
from skywire_cli.output import console, json_wanted, print_json, table
from skywire_cli.target import Target, listening, listens, not_running, silent
from skywire_cli.testnet.names import node_number

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from skywire_cli.admin import NodeAdmin

Row = dict[str, Any]
Cell = Callable[[Row], object]
# Of a question that completes a word: nobody waits longer for a Tab.
COMPLETE_S = 1.0
_Answer = TypeVar("_Answer")


class Key(click.ParamType[PublicKey]):
    """A public key on the command line."""

    name = "public key"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        """Read 66 hex digits."""
        try:
            return PublicKey.parse(str(value))
        except DecodeError as error:
            self.fail(str(error), param, ctx)


def node_key(text: str, directory: Path) -> PublicKey:
    """Read a public key, or a node of the testnet in a directory, as 2 or node2; raises CliError, click.UsageError."""
    number = node_number(text)
    if number is None:
        return Key().convert(text, None, click.get_current_context())
    from skywire_cli.testnet.state import load

    state = load(directory)
    if state is None:
        hint = "start one: skywire testnet up; or name nodes by their public keys"
        raise CliError("NO_TESTNET", f"{text} would be a node of a testnet, and none runs in {directory}", hint)
    return PublicKey.parse(state.numbered(number).public_key)


def ask(target: Target, question: Callable[[NodeAdmin], Awaitable[_Answer]]) -> _Answer:
    """Connect, ask, close; raises Failure or CliError."""
    import asyncio  # not for `--help`

    remote = target.remote
    socket = listening(target) if remote is None else None

    async def run() -> _Answer:
        from skywire_cli.admin import NodeAdmin

        admin = NodeAdmin(socket) if socket is not None else NodeAdmin.over_tcp(*target.place())
        async with admin:
            try:
                return await question(admin)
            except Failure as failure:
                if socket is not None and failure.code is ErrorCode.UNAVAILABLE and not listens(socket):
                    raise not_running(target) from failure  # it has ended meanwhile
                if socket is not None and failure.cause.startswith(f"unix:{socket} "):
                    raise silent(target) from failure
                raise

    return asyncio.run(run())


def show(rows: Sequence[Row], title: str, columns: dict[str, Cell]) -> None:
    """Print rows: all fields as JSON, or the columns as a table."""
    if json_wanted():
        print_json(list(rows))
    elif not rows:
        click.echo(f"no {title}")
    else:
        console().print(table(title, list(columns), [[cell(row) for cell in columns.values()] for row in rows]))


def done(document: dict[str, object], text: str) -> None:
    """Say that something was done."""
    if json_wanted():
        print_json(document)
    else:
        click.echo(text)


def short_addr(value: object) -> str:
    """Return the end of a loop for people."""
    return f"{value['public_key'][:8]}:{value['port']}" if isinstance(value, dict) else ""


def completing(
    question: Callable[[NodeAdmin], Awaitable[Sequence[str]]],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what completes a word with what the node has; without a node, or if it is slow, there is nothing."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        import asyncio

        from click.shell_completion import CompletionItem
        from skywire_common.errors import SkywireError

        from skywire_cli.target import of_context

        async def within(admin: NodeAdmin) -> Sequence[str]:
            async with asyncio.timeout(COMPLETE_S):
                return await question(admin)

        try:
            found = ask(of_context(context), within)
        except (CliError, SkywireError, OSError):
            return []
        return [CompletionItem(word) for word in found if word.startswith(begun)]

    return complete
