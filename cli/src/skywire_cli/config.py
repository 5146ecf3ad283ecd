"""`skywire config new|check|show`: the services say themselves what their configurations are; this asks and shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonGroup
from skywire_cli.nearest import nearest
from skywire_cli.output import console, json_wanted, print_json, table, warn
from skywire_cli.paths import NamedPath
from skywire_cli.programs import App, parse

MODULES = {
    "node": "skywire_node",
    "setup-node": "skywire_setup_node",
    "discovery": "skywire_transport_discovery",
}
TIMEOUT = 60.0
# How a service says what is wrong, by its exit code.
_SAYS = {
    2: ("CONFIG", "`skywire config show {service}` lists every key"),
    8: ("ALREADY_EXISTS", "another one goes into another directory"),
    9: ("FILE", "nothing was left there; see that there is room, and that you may write there"),
}

service_argument = click.argument("service", type=click.Choice(list(MODULES)))
what_argument = click.argument("what", nargs=-1, required=True, metavar="[SERVICE] [FILE]")
file_option = click.option("--config", "file", type=NamedPath(dir_okay=False), help="The file, if it is no argument.")
# A key that only this service has, and must have.
_TELLING = {"node": "node", "database_url": "discovery", "transport_discovery": "setup-node"}


def ask_service(service: str, *arguments: str) -> str:
    """Run a service for its word, and return what it prints; raises CliError with its reason."""
    line = [sys.executable, "-m", MODULES[service], *arguments]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise CliError("DEADLINE", f"the {service} service does not answer") from error
    if done.returncode in _SAYS:
        code, hint = _SAYS[done.returncode]
        said = done.stderr.strip().partition(": ")[2] or done.stderr.strip()
        raise CliError(code, said, hint.format(service=service))
    if done.returncode:
        raise CliError("SERVICE_FAILED", f"{MODULES[service]} does not run: {done.stderr.strip()[-500:]}")
    return done.stdout


@click.group(cls=JsonGroup)
def config() -> None:
    """Make, check and show the configuration of a node, a setup node or a discovery."""


@config.command()
@service_argument
@click.argument("directory", type=NamedPath(file_okay=False))
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="A dotted key and a value, JSON or text.")
@click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="'NAME[@PORT] [ARGUMENT...]'",
    help="Of a node: an app that ships, started with it; NAME=PROGRAM is a program of your own.",
)
def new(service: str, directory: Path, changes: tuple[str, ...], apps: tuple[str, ...]) -> None:
    """Write a key and a configuration into DIRECTORY; what is there already is never overwritten.

    Others are told the public key, which is in secret.key.pub. A setup node needs to know its discovery:
    --set transport_discovery.address=HOST:PORT --set transport_discovery.public_key=KEY.
    """
    for change in changes:
        if "=" not in change:
            raise click.BadParameter(f"{change} is no KEY=VALUE", param_hint="--set")
    if apps and service != "node":
        raise click.UsageError(f"a {service} has no apps")
    if apps and any(change.startswith("apps=") for change in changes):
        raise click.UsageError("name apps by --app or by --set apps=, not by both")
    programs = [parse(text) for text in apps]
    settings = [word for change in changes for word in ("--set", change)]
    if programs:
        settings += ["--set", f"apps={json.dumps([app.entry() for app in programs])}"]
    made: dict[str, Any] = json.loads(ask_service(service, "--new", str(directory), *settings))
    if service == "node":
        try:
            made["apps"] = _link(Path(made["config"]), programs)
        except (CliError, OSError):
            Path(made["config"]).unlink()  # so that the same line can be given again
            raise
        made["warnings"] = [warning for app in programs for warning in app.warnings()]
    if json_wanted():
        print_json(made)
        return
    click.echo(f"configuration  {made['config']}\nsecret key     {made['key']}")
    click.echo(f"public key     {made['public_key']}\n  also in      {made['public_key_file']}")
    for app in made.get("apps", ()):
        click.echo(f"app            {app}")
    warn(made.get("warnings", ()))


@config.command()
@what_argument
@file_option
def check(what: tuple[str, ...], file: Path | None) -> None:
    """Check a configuration as the service would at its start; exit code 1 if it is wrong, every mistake named.

    SERVICE is node, setup-node or discovery. A FILE alone says by its keys whose it is; without one the environment is
    checked.
    """
    service, file = _named(what, file)
    ask_service(service, "--check", *_file(file))
    if json_wanted():
        print_json({"ok": True})
    else:
        click.echo(f"{file or 'the environment'} is a configuration of a {service}")


@config.command()
@what_argument
@file_option
def show(what: tuple[str, ...], file: Path | None) -> None:
    """Show every key with unit, default, variable and meaning; of a FILE the values in force and their source.

    SERVICE is node, setup-node or discovery. A FILE alone says by its keys whose it is.
    """
    service, file = _named(what, file)
    fields: list[dict[str, Any]] = json.loads(ask_service(service, "--fields"))
    if file is None:
        if json_wanted():
            print_json(fields)
            return
        rows = [
            (
                row["key"],
                row["type"] + (f", {row['unit']}" if row["unit"] else ""),
                "required" if row["required"] else _text(row["default"]),
                row["meaning"],
                row["variable"],
            )
            for row in fields
        ]
        console().print(table(f"configuration of a {service}", ("key", "type", "default", "meaning", "variable"), rows))
        return
    values: list[dict[str, Any]] = json.loads(ask_service(service, "--show", *_file(file)))
    if json_wanted():
        print_json(values)
        return
    shown = [(row["key"], _text(row["value"]), row["unit"], row["source"], row["meaning"]) for row in values]
    console().print(table(str(file), ("key", "value", "unit", "from", "meaning"), shown))


def _named(what: tuple[str, ...], file: Path | None) -> tuple[str, Path | None]:
    """Return the service and the file that the arguments name; raises click.UsageError."""
    service, rest = (what[0], what[1:]) if what[0] in MODULES else (None, what)
    if service is None and not Path(what[0]).is_file():
        close = nearest(what[0], MODULES)
        said = f"{what[0]} is neither a service ({', '.join(MODULES)}) nor a file"
        raise click.BadParameter(said + (f"; the nearest is {close}" if close else ""))
    paths = [*map(Path, rest), *([file] if file is not None else [])]
    if len(paths) > 1:
        raise click.UsageError(f"one file at a time, not {' and '.join(map(str, paths))}")
    found = paths[0] if paths else None
    if service is not None:
        return service, found
    assert found is not None  # noqa: S101 - there was a word, and it was no service
    try:
        document = json.loads(found.read_bytes())
    except ValueError as error:
        raise CliError("CONFIG", f"{found}: not JSON: {error}") from error
    for key, name in _TELLING.items():
        if isinstance(document, dict) and key in document:
            return name, found
    raise click.UsageError(f"{found} does not say whose it is: name the service ({', '.join(MODULES)}) before it")


def _link(config_file: Path, programs: list[App]) -> list[str]:
    """Link apps to where their node looks for them; return the links."""
    document = json.loads(config_file.read_bytes())
    directory = config_file.parent / document["apps_path"]
    return [str(app.link(directory)) for app in programs]


def _file(file: Path | None) -> list[str]:
    return [] if file is None else ["--config", str(file)]


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
