"""Ports that a node that does not run could not have now, and who has them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

_LISTENING = "0A"
_PROC = Path("/proc")
_NAMED = ("link", "control", "metrics", "health")


class Taken(NamedTuple):
    """An address of the configuration that cannot be listened on: `who` has it, empty if that cannot be seen."""

    key: str
    address: str
    why: str
    who: str


def addresses(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Go through the keys of a node's configuration that name a port of this machine, with their addresses."""
    interfaces = document.get("interfaces")
    interfaces = interfaces if isinstance(interfaces, dict) else {}
    for name in _NAMED:
        if isinstance(interfaces.get(name), str):
            yield f"interfaces.{name}", interfaces[name]
    remote = interfaces.get("admin_remote")
    if isinstance(remote, dict) and isinstance(remote.get("listen"), str):
        yield "interfaces.admin_remote.listen", remote["listen"]
    for number, one in enumerate(document.get("transport_types") or ()):
        if isinstance(one, dict) and isinstance(one.get("listen"), str):
            yield f"transport_types.{number}.listen", one["listen"]


def taken(document: Mapping[str, Any]) -> list[Taken]:
    """Try every fixed port of a configuration; to be asked while its node does not run."""
    found = []
    for key, address in addresses(document):
        host, _, port = address.rpartition(":")
        if not port.isascii() or not port.isdigit() or port == "0":
            continue
        why = _refused(host.strip("[]"), int(port))
        if why is not None:
            held = why == errno.EADDRINUSE
            text = "is taken" if held else "is no address of this machine"
            found.append(Taken(key, address, text, _holder(int(port)) if held else ""))
    return found


def _refused(host: str, port: int) -> int | None:
    """Return why a port cannot be listened on; None if it can, or that is not what is wrong with it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.errno if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL) else None
    return None


def _holder(port: int) -> str:
    """Return "NAME (pid N)" of who listens on a port, as far as this user may see."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in _PROC.iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            if any(str(descriptor.readlink()) in inodes for descriptor in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                return f"{name} (pid {process.name})"
    return ""


def _listening(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
