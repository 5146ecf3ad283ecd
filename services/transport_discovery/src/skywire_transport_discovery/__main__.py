"""`skywire-discovery --config FILE`: the process; what makes SIGTERM harmless comes before all else."""

from __future__ import annotations

from typing import NoReturn

from skywire_common.runtime.early import end_in_order


def main() -> NoReturn:
    """Run until told to end."""
    end_in_order()
    from skywire_transport_discovery import command

    command.main()


if __name__ == "__main__":
    main()
