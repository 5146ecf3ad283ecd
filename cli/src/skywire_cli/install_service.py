"""`skywire install-service`: write a systemd unit for a service. It never enables or starts anything by itself."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from skywire_common.drafts import in_place_of

from skywire_cli.config import ask_service, service_argument
from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json
from skywire_cli.paths import NamedPath
from skywire_cli.programs import installed
from skywire_cli.units import control, unit_path

# Beyond the service's own grace: what it does after it, before systemd kills what is left.
BEYOND_GRACE_S = 10
# A wrong configuration does not become right by starting again.
CONFIG_EXIT = 2
_UNIT_MODE = 0o644
# Keys whose paths the service writes to.
_WRITTEN = ("local_path", "apps_path")


class Unit(NamedTuple):
    """What a unit file says."""

    service: str
    executable: Path
    config: Path
    writable: Sequence[Path]
    user: str
    stop_s: int
    of_user: bool


@click.command("install-service", cls=JsonCommand)
@service_argument
@click.option("--config", "file", type=NamedPath(dir_okay=False, exists=True), required=True, help="Its file.")
@click.option(
    "--dir",
    "directory",
    type=NamedPath(file_okay=False),
    help="Where to write the unit [default: /etc/systemd/system; with --user ~/.config/systemd/user].",
)
@click.option("--user", "of_user", is_flag=True, help="A unit of your own systemd instead of the system's.")
@click.option("--run-as", default=None, help="User that the system's unit runs as [default: you].")
@click.option("--force", is_flag=True, help="Replace a unit that says something else.")
def install_service(
    service: str, file: Path, directory: Path | None, of_user: bool, run_as: str | None, force: bool
) -> None:
    """Check the configuration and write a systemd unit for it; print how to enable it, which is left to you."""
    file = file.absolute()
    values = {row["key"]: row["value"] for row in json.loads(ask_service(service, "--show", "--config", str(file)))}
    unit = Unit(
        service,
        installed(f"skywire-{service}"),
        file,
        _writable(file.parent, values),
        run_as or getpass.getuser(),
        int(float(values["grace_s"])) + BEYOND_GRACE_S,
        of_user,
    )
    path = unit_path(service, of_user=of_user, directory=directory)
    _write(path, render(unit), force)
    tell = control(of_user=of_user)
    after = [f"{tell} daemon-reload", f"{tell} enable --now {path.stem}", f"skywire logs --unit {path.stem}"]
    if json_wanted():
        print_json({"unit": str(path), "next": after})
    else:
        click.echo(
            "\n".join((f"wrote {path}; to have it run, now and at every start:", *(f"  {line}" for line in after)))
        )


def render(unit: Unit) -> str:
    """Return the unit file."""
    writable = "\n".join(f"ReadWritePaths={_quoted(path)}" for path in unit.writable)
    runs_as = "" if unit.of_user else f"User={unit.user}\n"
    target = "default.target" if unit.of_user else "multi-user.target"
    return f"""[Unit]
Description=Skywire {unit.service}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={_quoted(unit.executable, command=True)} --config {_quoted(unit.config, command=True)}
WorkingDirectory={_plain(unit.config.parent)}
{runs_as}Restart=on-failure
RestartSec=2
RestartPreventExitStatus={CONFIG_EXIT}
# The service ends its apps itself; what is left after its time is killed.
KillMode=mixed
TimeoutStopSec={unit.stop_s}
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
{writable}

[Install]
WantedBy={target}
"""


def _writable(base: Path, values: dict[str, Any]) -> list[Path]:
    """Return directories that must be there before the unit starts, made if they are missing."""
    paths = [base, *(base / str(values[key]) for key in _WRITTEN if values.get(key))]
    if values.get("interfaces.admin"):
        paths.append((base / str(values["interfaces.admin"])).parent)
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    # One within another that is named is named already.
    return sorted({path for path in paths if not any(other in path.parents for other in paths)})


def _write(path: Path, text: str, force: bool) -> None:
    if path.exists() and path.read_text() != text and not force:
        raise CliError("ALREADY_EXISTS", f"{path} exists and says something else", "--force replaces it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_place_of(path) as draft:
        draft.write_text(text)
        draft.chmod(_UNIT_MODE)


def _plain(path: Path) -> str:
    text = str(path)
    if any(character in text for character in "\n\r\0"):
        raise CliError("INVALID_INPUT", "a path in a unit file has no line breaks")
    return text.replace("%", "%%")


def _quoted(path: Path, *, command: bool = False) -> str:
    """Write a path so that systemd reads it as one word, without specifiers and variables."""
    text = _plain(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("$", "$$") if command else text}"'
