"""End loops over which no app has sent anything for a while (limits.idle_loop_s; off by default).

Pings keep the rules of an open loop alive, so nothing else would ever end one that its apps have forgotten. A loop that
waits for a route is left to its patience.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from skywire_common.errors import ErrorCode, Failure, FailureFields

from skywire_node.loops.loops import Loops
from skywire_node.loops.routed_loop import RoutedLoop

LOOKS = 10  # in the time that a loop may be idle: so much later than that it ends at most
LONGEST_PAUSE = 30.0


class Idling:
    """Looks at every loop's counts now and then; packets are not concerned."""

    def __init__(self, loops: Loops, limit: float) -> None:
        """`limit` in seconds."""
        self._loops = loops
        self._limit = limit
        self._seen: WeakKeyDictionary[RoutedLoop, tuple[int, float]] = WeakKeyDictionary()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(min(self._limit / LOOKS, LONGEST_PAUSE))
            self.look()

    def look(self) -> None:
        """End what has been idle for too long."""
        now = self._loops.clock()
        for loop in list(self._loops.by_id.values()):
            moved = loop.bytes_sent + loop.bytes_received
            before, since = self._seen.get(loop, (-1, now))
            if moved != before or loop.waiting_for_route:
                self._seen[loop] = (moved, now)
            elif now - since >= self._limit:
                cause = f"idle: no app has sent anything for {self._limit:.0f} s"
                loop.close(Failure(ErrorCode.CLOSED, cause, FailureFields(setup_id=loop.loop_id)))
