"""Rules by where they point: what a link that is lost, or a neighbour's route error, is about, without a walk.

A node in the middle of many routes has 100,000 rules (docs/performance.md, P8), and each link carries a share of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from skywire_common.rules import APP_TYPE

from skywire_node.routing.leases import Installed


class Pointing:
    """Forward rules by the link they lead to and the id they use there, app rules by the link they come from."""

    __slots__ = ("_arriving", "_leaving")

    def __init__(self) -> None:
        # Two rules that use the same id on the same link are rare: only then is there a set.
        self._leaving: dict[UUID, dict[int, int | set[int]]] = {}
        self._arriving: dict[UUID, set[int]] = {}

    def add(self, route_id: int, rule: Installed) -> None:
        """Take a rule in that was just installed."""
        if rule.next_transport is not None:
            leaving = self._leaving.setdefault(rule.next_transport, {})
            others = leaving.get(rule.next_id)
            if others is None:
                leaving[rule.next_id] = route_id
            elif isinstance(others, set):
                others.add(route_id)
            else:
                leaving[rule.next_id] = {others, route_id}
        elif rule.kind == APP_TYPE and rule.from_transport is not None:
            self._arriving.setdefault(rule.from_transport, set()).add(route_id)

    def discard(self, route_id: int, rule: Installed) -> None:
        """Take a rule out that was just removed."""
        if rule.next_transport is not None:
            leaving = self._leaving[rule.next_transport]
            others = leaving[rule.next_id]
            if isinstance(others, set):
                others.discard(route_id)
                if len(others) == 1:
                    leaving[rule.next_id] = others.pop()
            else:
                del leaving[rule.next_id]
            if not leaving:
                del self._leaving[rule.next_transport]
        elif rule.kind == APP_TYPE and rule.from_transport is not None:
            arriving = self._arriving[rule.from_transport]
            arriving.discard(route_id)
            if not arriving:
                del self._arriving[rule.from_transport]

    def to(self, link: UUID, next_id: int) -> tuple[int, ...]:
        """Return the ids of the rules that send packets out by this link under this id."""
        found = self._leaving.get(link, {}).get(next_id)
        return () if found is None else tuple(_ids(found))

    def by(self, link: UUID) -> list[int]:
        """Return the ids of all rules that send packets out by this link."""
        return [route_id for found in self._leaving.get(link, {}).values() for route_id in _ids(found)]

    def ending(self, link: UUID) -> list[int]:
        """Return the ids of the app rules whose packets come by this link."""
        return list(self._arriving.get(link, ()))


def _ids(found: int | set[int]) -> Iterable[int]:
    return found if isinstance(found, set) else (found,)
