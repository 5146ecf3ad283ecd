"""A node's ports: which app has which (wire.md, App pipe).

1 to 9           reserved: 1 chat, 2 SSH, 3 SOCKS proxy; only an app of that name may have one
10 to 49151      configured; bound while their app runs
49152 to 65535   given to dialling loops, one each, from a random start upwards
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.keys import MAX_PORT

FIRST_CONFIGURED = 10
FIRST_FREE = 49_152
RESERVED: Mapping[int, str] = {1: "chat", 2: "ssh", 3: "socksproxy"}


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


def check_configured(port: int, app: str) -> None:
    """Check that a port may stand in an app's config; raises Failure."""
    if not 1 <= port < FIRST_FREE:
        raise Failure(
            ErrorCode.INVALID_ARGUMENT,
            f"app {app} cannot have port {port}: configured ports end at {FIRST_FREE - 1}, others are for dialling",
        )
    if port < FIRST_CONFIGURED and RESERVED.get(port) != app:
        kept = f"for {RESERVED[port]}" if port in RESERVED else "for apps to come"
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"app {app} cannot have port {port}: it is reserved {kept}")


def check_distinct(wanted: Iterable[tuple[str, int]]) -> None:
    """Check that no two apps are configured with one port (0: none); raises LocalError that names both."""
    owners: dict[int, str] = {}
    for app, port in wanted:
        if port == 0:
            continue
        owner = owners.setdefault(port, app)
        if owner != app:
            raise LocalError(f"apps {owner} and {app} both want port {port}")
