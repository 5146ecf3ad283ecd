"""Route ids that were given out and bear no rule yet: whose they are, how many one may have, how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Container

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.packet import MAX_ROUTE_ID

from skywire_node.routing.leases import Setup

MAX_RESERVED_PER_OWNER = 8_192
MAX_RESERVED = 32_768
_DRAWS = 64


class Reservations:
    """Reserved ids, each with the set-up that it was given to; at most `most`, and `most_per_owner` of one owner."""

    def __init__(self, most: int, most_per_owner: int) -> None:
        self._most = most
        self._most_per_owner = most_per_owner
        self._setups: dict[int, Setup] = {}
        self._by_owner: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._setups)

    def of(self, route_id: int) -> Setup | None:
        """Return the set-up for which an id is reserved, if it is."""
        return self._setups.get(route_id)

    def draw(self, count: int, owner: bytes, draw: Callable[[], int], taken: Container[int]) -> list[int]:
        """Draw ids that are neither reserved nor `taken`; raises Failure (LIMIT_REACHED) if the owner has enough."""
        if self._by_owner.get(owner, 0) + count > self._most_per_owner:
            raise limit_reached("reservations_per_setup_node", self._most_per_owner)
        if len(self._setups) + count > self._most:
            raise limit_reached("reservations", self._most)
        ids: list[int] = []
        for _ in range(_DRAWS + count):
            route_id = draw()
            free = route_id not in taken and route_id not in self._setups and route_id not in ids
            if free and 1 <= route_id <= MAX_ROUTE_ID:
                ids.append(route_id)
                if len(ids) == count:
                    return ids
        raise Failure(ErrorCode.INTERNAL, f"{_DRAWS} draws gave no free route id: the randomness is broken")

    def hold(self, setup: Setup) -> None:
        """Reserve all that a set-up was given."""
        for route_id in setup.given:
            self._setups[route_id] = setup
        self._by_owner[setup.owner] = self._by_owner.get(setup.owner, 0) + len(setup.given)

    def release(self, route_id: int) -> None:
        """End one reservation."""
        owner = self._setups.pop(route_id).owner
        left = self._by_owner[owner] - 1
        if left:
            self._by_owner[owner] = left
        else:
            del self._by_owner[owner]


def limit_reached(name: str, most: int) -> Failure:
    """Say which bound of the routing table was reached."""
    text = f"at most {most} {name.replace('_', ' ')}"
    return Failure(ErrorCode.LIMIT_REACHED, text, FailureFields(limit=name, retryable=True))
