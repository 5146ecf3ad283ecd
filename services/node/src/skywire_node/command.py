"""`skywire-node --config FILE`: the process."""

from __future__ import annotations

from typing import NoReturn

from skywire_common.runtime import service as runtime
from skywire_common.runtime.service import Ready, Scope

from skywire_node.config import NodeSettings, first

NAME = "skywire-node"


async def start(settings: NodeSettings, scope: Scope) -> Ready:
    """Start the node, which is loaded now: questions about its configuration need not wait for that."""
    from skywire_node import node

    return await node.start(settings, scope, adopts=True)


def main() -> NoReturn:
    """Run until told to end."""
    runtime.main(NAME, NodeSettings, start, first, begins=True)
