"""Copy a file of any size to another node; both ends compute SHA-256 and compare.

    skywire-filecopy receive DIR            takes files into DIR, on the port of the node's config
    skywire-filecopy send FILE KEY:PORT

Exit codes of send: 0 the file is there, whole; 1 it failed on the way; 2 the command is wrong; 3 the other end cannot
be reached; 4 the other end refused it (name taken, disk full); 5 what arrived is not what was sent; 6 the file is
none, or cannot be read, or changed meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from skywire_apps.identity import identity
from skywire_apps.options import run
from skywire_apps.report import Report

NAME, VERSION = "filecopy", "1.0"


@click.group(help=(__doc__ or "").partition("\n")[0])
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main() -> None:
    """Run the app."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("remote", metavar="KEY:PORT")
@click.option("--name", help="Under which name; the file's own by default.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for the other end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, progress included.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result there too, as JSON.")
def send(file: Path, remote: str, name: str | None, timeout: float, as_json: bool, output: Path | None) -> None:
    """Send FILE to the filecopy at KEY:PORT."""
    from skywire_apps.filecopy_send import send_file

    sys.exit(send_file(identity(NAME, VERSION), file, remote, name or file.name, timeout, Report(as_json, output)))


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--max-size", type=click.IntRange(0), help="Refuse files of more bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def receive(folder: Path, overwrite: bool, max_size: int | None, as_json: bool) -> None:
    """Take files into DIR, which is made if it is missing, until the node says stop."""
    from skywire_apps.filecopy_receive import Receiver

    report = Report(as_json, None)

    async def serve() -> None:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await Receiver(folder, overwrite, max_size, report).run(*identity(NAME, VERSION))

    run(NAME, report, serve())


if __name__ == "__main__":
    main()
