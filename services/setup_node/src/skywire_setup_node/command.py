"""`skywire-setup-node --config FILE`: the process."""

from __future__ import annotations

from typing import NoReturn

from skywire_common.runtime import service as runtime
from skywire_common.runtime.service import Ready, Scope

from skywire_setup_node.config import SetupNodeSettings, first

NAME = "skywire-setup-node"


async def start(settings: SetupNodeSettings, scope: Scope) -> Ready:
    """Start the setup node, which is loaded now: questions about its configuration need not wait for that."""
    from skywire_setup_node import serving

    return await serving.start(settings, scope)


def main() -> NoReturn:
    """Run until told to end."""
    runtime.main(NAME, SetupNodeSettings, start, first)
