"""`skywire node apps add|remove`: programs of a node, in its configuration and apps_path, from its next start on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from skywire_common.drafts import in_place_of
from skywire_common.private_files import write_private

from skywire_cli.asking import done
from skywire_cli.config import ask_service
from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import warn
from skywire_cli.paths import NamedPath
from skywire_cli.programs import parse
from skywire_cli.target import Target, target_options

_LATER = "it counts from the node's next start on"
config_option = click.option(
    "--config", "file", type=NamedPath(dir_okay=False, exists=True), help="Its file [default: beside its socket]."
)


@click.command("add", cls=JsonCommand)
@target_options
@click.argument("app", metavar="'NAME[@PORT] [ARGUMENT...]'")
@config_option
def add_app(target: Target, app: str, file: Path | None) -> None:
    """Link an app that ships, and write it into the node's configuration: it starts with the node from then on.

    NAME=PROGRAM is a program of your own. The node may run or not, and has to be started again.
    """
    config = file or _config_of(target)
    program = parse(app)
    document = _read(config)
    if any(entry.get("app") == program.name for entry in document.get("apps", ())):
        hint = f"skywire node apps remove {program.name}"
        raise CliError("ALREADY_EXISTS", f"{config} has an app {program.name} already", hint)
    document["apps"] = [*document.get("apps", ()), program.entry()]
    link = program.link(_directory(config, document))
    try:
        _check_and_write(config, document)
    except (CliError, OSError):
        link.unlink()
        raise
    warnings = program.warnings()
    told: dict[str, object] = {"app": program.name, "program": str(link), "config": str(config), "warnings": warnings}
    done(told, f"{link} is in {config}; {_LATER}")
    warn(warnings)


@click.command("remove", cls=JsonCommand)
@target_options
@click.argument("name")
@config_option
def remove_app(target: Target, name: str, file: Path | None) -> None:
    """Take the app NAME out of the node's configuration, and its link away; its own files stay."""
    config = file or _config_of(target)
    document = _read(config)
    gone = [entry for entry in document.get("apps", ()) if entry.get("app") == name]
    if not gone:
        names = ", ".join(str(entry.get("app")) for entry in document.get("apps", ())) or "none"
        raise CliError("NOT_FOUND", f"{config} has no app {name}", f"it has {names}")
    document["apps"] = [entry for entry in document["apps"] if entry not in gone]
    _check_and_write(config, document)
    for entry in gone:
        link = _directory(config, document) / f"{name}.v{entry.get('version')}"
        if link.is_symlink():
            link.unlink()
    done({"app": name, "config": str(config)}, f"app {name} is no more in {config}; {_LATER}")


def _config_of(target: Target) -> Path:
    """Return the configuration of the node that the options mean; raises CliError."""
    from skywire_cli.testnet.state import load

    socket = target.admin_socket()
    if (target.socket is None or target.number is not None) and load(target.directory) is not None:
        raise CliError(
            "USAGE", "a testnet's apps are named at its start", "skywire testnet up --app NAME@NODE:PORT=COMMAND"
        )
    found = target.config_file()
    if found is None:
        raise CliError("NOT_FOUND", f"there is no configuration beside {socket}", "name the node's file by --config")
    return found


def _read(config: Path) -> dict[str, Any]:
    """Read a configuration whose apps can be gone through; raises CliError."""
    try:
        document = json.loads(config.read_bytes())
    except ValueError as error:
        raise CliError("CONFIG", f"{config}: not JSON: {error}") from error
    apps = document.get("apps", ()) if isinstance(document, dict) else None
    if not isinstance(apps, list | tuple) or not all(isinstance(entry, dict) for entry in apps):
        raise CliError("CONFIG", f"{config} is not a node's", f"skywire config check node --config {config}")
    return dict(document)


def _check_and_write(config: Path, document: dict[str, Any]) -> None:
    """Put a document in a configuration's place, if the service would take it; raises CliError."""
    with in_place_of(config) as draft:
        write_private(draft, json.dumps(document, indent=2) + "\n")
        ask_service("node", "--check", "--config", str(draft))


def _directory(config: Path, document: dict[str, Any]) -> Path:
    return config.parent / str(document.get("apps_path", "apps"))
