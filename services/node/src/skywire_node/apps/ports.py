"""A node's ports: which app has which (the ranges stand in skywire_common.app_rules).

Configured ports are bound while their app runs. Dialling loops get one each, from a random start upwards.
"""

from __future__ import annotations

from collections.abc import Iterable

from skywire_common.app_rules import FIRST_FREE, check_configured
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.keys import MAX_PORT

__all__ = ["FIRST_FREE", "Ports", "check_configured", "check_distinct"]


class Ports:
    """Who has which port. `start` is any number; free ports are given from there upwards, round and round."""

    def __init__(self, start: int) -> None:
        self._span = MAX_PORT + 1 - FIRST_FREE
        self._next = start % self._span
        self._owners: dict[int, str] = {}

    def owner(self, port: int) -> str | None:
        """Return the app that has a port."""
        return self._owners.get(port)

    def bind(self, port: int, app: str) -> None:
        """Give an app its configured port; raises Failure naming both if another app has it."""
        check_configured(port, app)
        owner = self._owners.setdefault(port, app)
        if owner != app:
            raise Failure(ErrorCode.CONFLICT, f"app {app} wants port {port}, which app {owner} has")

    def free(self, app: str) -> int:
        """Give an app a port for one dialling loop; raises Failure if all 16,384 are in use."""
        for _ in range(self._span):
            port = FIRST_FREE + self._next
            self._next = (self._next + 1) % self._span
            if port not in self._owners:
                self._owners[port] = app
                return port
        failure = Failure(ErrorCode.LIMIT_REACHED, f"all {self._span} ports for dialling are in use")
        raise failure.within(limit="ports", retryable=True)

    def release(self, port: int) -> None:
        """Take a port back; one that nobody has is no matter."""
        self._owners.pop(port, None)

    def bound(self) -> dict[int, str]:
        """Return every port in use with its app."""
        return dict(self._owners)


def check_distinct(wanted: Iterable[tuple[str, int]]) -> None:
    """Check that no two apps are configured with one port (0: none); raises LocalError that names both."""
    owners: dict[int, str] = {}
    for app, port in wanted:
        if port == 0:
            continue
        owner = owners.setdefault(port, app)
        if owner != app:
            raise LocalError(f"apps {owner} and {app} both want port {port}")
