"""A container's environment, loaded as its service would load it there, on files that a test makes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from authority import Authority
from click.testing import CliRunner
from skywire_cli.identities import identities
from skywire_common.runtime import first
from skywire_common.runtime.config import ServiceSettings, load
from skywire_common.runtime.describe import described
from skywire_node import config as node
from skywire_setup_node import config as setup_node
from skywire_transport_discovery import config as discovery

SETTINGS: dict[str, type[ServiceSettings]] = {
    "discovery": discovery.Settings,
    "setup-node": setup_node.SetupNodeSettings,
    "node": node.NodeSettings,
    "apps": node.NodeSettings,
}
# Variables that are not of the configuration.
BESIDE = {"SKYWIRE_HOME", "SKYWIRE_ADMIN", "SKYWIRE_REVISION"}
NAMES = (
    "discovery",
    *(f"setup-node-{which}" for which in ("1", "2", "a", "b")),
    *(f"node-{number}" for number in range(7)),
)


class World:
    """A root directory with keys, public keys and certificates where containers find them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        run = root / "run"
        made = CliRunner().invoke(identities, ["make", str(root / "identities"), *NAMES])
        assert made.exit_code == 0, made.output
        run.mkdir()
        (run / "public").symlink_to(root / "identities" / "public")
        for place in (run / "identity", run / "skywire" / "identity"):
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(root / "identities" / "discovery")
        (run / "tls").mkdir()
        authority = Authority(run / "tls")
        certificate, key = authority.issue("any")
        certificate.rename(run / "tls" / "tls.crt")
        key.rename(run / "tls" / "tls.key")
        authority.ca.rename(run / "tls" / "ca.crt")

    def load(self, target: str, environment: Mapping[str, str]) -> Any:
        """Load the configuration of a service in a container with this environment; raises ConfigError."""
        moved = {
            name: value.replace("/run/", f"{self.root}/run/").replace("/var/lib/", f"{self.root}/var/lib/")
            for name, value in environment.items()
        }
        with _environment(moved):
            if target in ("node", "apps") and "SKYWIRE_NODE__STATIC_SECRET_KEY_FILE" not in moved:
                home = first.directory_of("skywire-node", moved)
                config = home / first.CONFIG_FILE
                if not config.exists():
                    first.make(home, node.NodeSettings, node.first)
                return load(node.NodeSettings, config)
            return load(SETTINGS[target], None)


def variables(target: str) -> set[str]:
    """Return every variable that a service reads."""
    return {row.variable for row in described(SETTINGS[target]) if row.variable} | {
        # Lists are given whole.
        f"SKYWIRE_{name.upper()}"
        for name in SETTINGS[target].model_fields
    }


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = _settings(os.environ)
    # Nothing else: an image has a PATH too, which is not this process's.
    during = _settings(wanted)
    try:
        for name in before:
            del os.environ[name]
        os.environ.update(during)
        yield
    finally:
        for name in during:
            os.environ.pop(name, None)
        os.environ.update(before)


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("SKYWIRE_")}
