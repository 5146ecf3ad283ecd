"""A chat between nodes: a page in your browser, messages that wait until the other is there.

skywire-chat                          what the node starts, on port 1
skywire-chat open FILE                opens the page; the app's log says which FILE
"""

from __future__ import annotations

import asyncio
import os
import secrets
import webbrowser
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import click
from skywire_app import App, PublicKey
from skywire_common.app_rules import KEY_VARIABLE
from skywire_common.drafts import in_place_of
from skywire_common.errors import DecodeError, LocalError
from skywire_common.private_files import write_private

from skywire_apps.access import show_target
from skywire_apps.chat.http import MAX_CONNECTIONS, Site
from skywire_apps.chat.page import Page
from skywire_apps.chat.store import Store
from skywire_apps.chat.talk import Talk
from skywire_apps.identity import identity
from skywire_apps.listener import listen, parse_listen, tcp_server
from skywire_apps.options import run
from skywire_apps.report import Report

NAME, VERSION = "chat", "1.0"
HISTORY = Path("history.sqlite")
TOKEN = Path("page.token")
URL = Path("page.url")
_TOKEN_BYTES = 24


@click.group(help=(__doc__ or "").partition("\n")[0], invoke_without_command=True)
@click.option("--listen", "place", default="127.0.0.1:8001", show_default=True, metavar="HOST:PORT", help="The page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write where the page is there, as JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
@click.pass_context
def main(context: click.Context, place: str, as_json: bool, output: Path | None) -> None:
    """Run the app."""
    if context.invoked_subcommand is not None:
        return
    try:
        check_loopback(place)
    except DecodeError as error:
        raise click.UsageError(str(error)) from error
    report = Report(as_json, output)
    run(NAME, report, _chat(identity(NAME, VERSION), place, report))


@main.command("open")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--print", "only_print", is_flag=True, help="Print the address instead; it lets in whoever has it.")
def open_command(file: Path, only_print: bool) -> None:
    """Open the page of a chat that runs. FILE is in the chat's directory, {local_path}/chat/v1.0/page.url."""
    url = file.read_text().strip()
    if only_print or not webbrowser.open(url):
        click.echo(url)


def check_loopback(place: str) -> None:
    """Check that a page is served to this machine only; raises DecodeError."""
    host, _ = parse_listen(place)
    try:
        inside = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise DecodeError(
            f"the page is for this machine only: 127.0.0.1:PORT, not {place}; from elsewhere reach it by ssh -L"
        )


async def _chat(name: tuple[str, str], place: str, report: Report) -> None:
    async with App.setup(*name) as app:
        store = Store(HISTORY)
        own = os.environ.get(KEY_VARIABLE)
        talk = Talk(app, store, PublicKey.parse(own) if own else None, report)
        site = Site(Page(talk, _token()).answer)

        def listening(server: asyncio.Server) -> None:
            host, port = server.sockets[0].getsockname()[:2]
            shown = show_target(host, port)
            site.authorities = frozenset({shown, f"localhost:{port}"})
            _write_private(URL, f"http://{shown}/#{_token()}\n")
            said = f"the page is on {shown}; open it: skywire-chat open {URL.absolute()}"
            report.end(said, ok=True, listening=shown, host=host, port=port, open=str(URL.absolute()))

        greeting = asyncio.ensure_future(talk.greet())
        try:
            await listen(app, partial(tcp_server, place), site.serve, MAX_CONNECTIONS, listening, talk.take)
        finally:
            greeting.cancel()
            await asyncio.gather(greeting, return_exceptions=True)
            await talk.close()
            store.close()


def _token() -> str:
    """Return the token of this chat's page, made when it first runs; raises LocalError."""
    try:
        token = TOKEN.read_text().strip() if TOKEN.exists() else ""
        if not token:
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            _write_private(TOKEN, token + "\n")
    except OSError as error:
        raise LocalError(f"the token {TOKEN.absolute()}: {error}") from error
    return token


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its user can read, in place of what was there."""
    with in_place_of(path) as draft:
        write_private(draft, text)
