"""The configuration documents of a testnet's processes. Pure: who knows the keys and addresses passes them in.

Every port is 0; a process writes the ones it got into its ready file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skywire_cli.testnet.plan import PLACEHOLDER, Link, Plan

Document = dict[str, Any]
ANY_PORT = "127.0.0.1:0"
KEY_FILE = "secret.key"
DATABASE_FILE = "discovery.db"


class Peer(NamedTuple):
    """A service as its clients' configs name it."""

    address: str
    public_key: str

    def document(self) -> Document:
        """Return the config's form."""
        return self._asdict()


def discovery(directory: Path, log_level: str) -> Document:
    """Configure a transport discovery on SQLite."""
    return {
        "secret_key_file": str(directory / KEY_FILE),
        "database_url": f"sqlite+aiosqlite:///{directory / DATABASE_FILE}",
        "interfaces": {"grpc": ANY_PORT, "http": ANY_PORT},
        "log_level": log_level,
    }


def setup_node(directory: Path, discovery: Peer, log_level: str) -> Document:
    """Configure a setup node."""
    return {
        "secret_key_file": str(directory / KEY_FILE),
        "transport_discovery": discovery.document(),
        "interfaces": {"grpc": ANY_PORT, "metrics": ANY_PORT},
        "log_level": log_level,
    }


def node(
    plan: Plan,
    index: int,
    directory: Path,
    socket: Path,
    apps_path: Path,
    keys: Sequence[str],
    discovery: Peer,
    setup_nodes: Sequence[Peer],
) -> Document:
    """Configure a node; `keys` are the public keys of all nodes, in order."""
    return {
        "node": {"static_public_key": keys[index], "static_secret_key_file": str(directory / KEY_FILE)},
        "transport_discovery": discovery.document(),
        "setup_nodes": [peer.document() for peer in setup_nodes],
        "trusted_nodes": [peer.public_key for peer in setup_nodes],
        "transports": [
            {"public_key": keys[link.acceptor], "type": plan.transport_type, "public": True, **_address(plan, link)}
            for link in plan.links
            if link.dialler == index
        ],
        "transport_types": [{"type": name, "listen": ANY_PORT} for name in (plan.transport_type,) if name != "tcp"],
        "apps": [
            {
                "app": app.name,
                "version": app.version,
                "auto_start": app.auto_start,
                "standby": app.standby,
                "port": app.port,
                "args": [_filled(arg, keys) for arg in app.args],
                "env": {name: _filled(value, keys) for name, value in app.env.items()},
            }
            for app in plan.apps.get(index, ())
        ],
        "apps_path": str(apps_path),
        "local_path": str(directory / "local"),
        "log_level": plan.log_level,
        "limits": dict(plan.limits),
        "interfaces": {
            "link": ANY_PORT,
            "control": ANY_PORT,
            "metrics": ANY_PORT,
            "admin": str(socket),
            **({"announced_link": plan.announced_link} if plan.announced_link else {}),
        },
    }


def _address(plan: Plan, link: Link) -> Document:
    return {"address": plan.addresses[link]} if link in plan.addresses else {}


def _filled(text: str, keys: Sequence[str]) -> str:
    return PLACEHOLDER.sub(lambda match: keys[int(match[1]) - 1], text)
