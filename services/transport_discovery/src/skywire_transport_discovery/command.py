"""`skywire-discovery`: serve, or `skywire-discovery migrate --config FILE`: bring the schema to the newest revision."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import NoReturn

from skywire_common.errors import Failure, LocalError
from skywire_common.runtime import service
from skywire_common.runtime.config import ConfigError, load
from skywire_common.runtime.service import Ready, Scope

from skywire_transport_discovery.config import Settings, first
from skywire_transport_discovery.store.database import Database

NAME = "skywire-discovery"


async def start(settings: Settings, scope: Scope) -> Ready:
    """Start the discovery, which is loaded now: a migration or a question about its configuration needs less."""
    from skywire_transport_discovery.service import start as start_discovery

    return await start_discovery(settings, scope)


def main() -> NoReturn:
    """Run the service, or the migration, and exit."""
    if sys.argv[1:2] == ["migrate"]:
        sys.exit(_migrate(sys.argv[2:]))
    service.main(NAME, Settings, start, first)


def _migrate(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"{NAME} migrate", description="Migrate the schema; many may run at once.")
    parser.add_argument("--config", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        settings = load(Settings, arguments.config)
        revision = asyncio.run(upgrade(settings.database_url.get_secret_value()))
    except (ConfigError, LocalError) as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return service.EXIT_CONFIG
    except Failure as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return service.EXIT_BROKEN
    sys.stdout.write(f"the schema is at {revision}\n")
    return service.EXIT_OK


async def upgrade(url: str) -> str:
    """Migrate the database at a URL and return its revision."""
    database = Database(url)
    try:
        return await database.upgrade()
    finally:
        await database.close()
