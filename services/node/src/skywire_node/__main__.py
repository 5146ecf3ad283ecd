"""`skywire-node --config FILE`: the process."""

from __future__ import annotations

from typing import NoReturn

from skywire_common.runtime import service as runtime

from skywire_node.config import NodeSettings, first
from skywire_node.node import NAME, start


def main() -> NoReturn:
    """Run until told to end."""
    runtime.main(NAME, NodeSettings, start, first, begins=True)


if __name__ == "__main__":
    main()
