"""`skywire keygen`: a key file that nobody else may read."""

from __future__ import annotations

from pathlib import Path

import click
from skywire_common.private_files import write_private

from skywire_cli.asking import done
from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json
from skywire_cli.paths import NamedPath


def write_key_file(path: Path) -> str:
    """Make a secret key and its .pub beside it, and return the public key in hex; raises FileExistsError."""
    from skywire_common.key_files import make_key

    return str(make_key(path))


def write_token_file(path: Path) -> None:
    """Make a token and write it with mode 0600; raises FileExistsError."""
    from skywire_common.rpc import token

    write_private(path, token.make() + "\n")


@click.command(cls=JsonCommand)
@click.argument("file", type=NamedPath(dir_okay=False), default=Path("secret.key"))
@click.option("--token", is_flag=True, help="Make a token for interfaces.admin_remote instead; it is not printed.")
def keygen(file: Path, token: bool) -> None:
    """Write a new secret key to FILE (default secret.key, mode 0600), the public one to FILE.pub, and print that."""
    try:
        if token:
            write_token_file(file)
            done({"file": str(file)}, f"token in {file}")
            return
        public_key = write_key_file(file)
    except FileExistsError as error:
        raise CliError("ALREADY_EXISTS", f"{file} exists", "a key is never overwritten: choose another name") from error
    if json_wanted():
        from skywire_common.key_files import public_file

        print_json({"public_key": public_key, "file": str(file), "public_key_file": str(public_file(file))})
    else:
        click.echo(public_key)
