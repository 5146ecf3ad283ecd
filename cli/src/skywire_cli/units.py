"""Systemd units of services on this machine: which there is for a configuration, and the line that starts it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

SYSTEM_DIRECTORY = Path("/etc/systemd/system")
USER_DIRECTORY = Path("~/.config/systemd/user")
_CONFIG = re.compile(r"^ExecStart=.* --config \"?(?P<path>[^\"\n]+)\"?$", re.MULTILINE)


class Installed(NamedTuple):
    """A unit file of a service, as `skywire install-service` names it."""

    path: Path
    of_user: bool

    @property
    def control(self) -> str:
        """The command that this unit is told by."""
        return control(of_user=self.of_user)

    def config(self) -> Path | None:
        """Return the configuration of the service; None: the unit does not say so, or may not be read."""
        try:
            match = _CONFIG.search(self.path.read_text())
        except (OSError, UnicodeDecodeError):
            return None
        return Path(match["path"]) if match is not None else None


def control(*, of_user: bool) -> str:
    """Return the command that units are told by."""
    return "systemctl --user" if of_user else "systemctl"


def unit_path(service: str, *, of_user: bool, directory: Path | None = None) -> Path:
    """Return where the unit of a service is."""
    return (directory or (USER_DIRECTORY.expanduser() if of_user else SYSTEM_DIRECTORY)) / f"skywire-{service}.service"


def found(service: str) -> list[Installed]:
    """Return the units of a service that are on this machine, the system's first."""
    units = [Installed(unit_path(service, of_user=of_user), of_user) for of_user in (False, True)]
    return [unit for unit in units if unit.path.is_file()]
