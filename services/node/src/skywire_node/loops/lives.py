"""Notice that a node at the other end of a paused loop was started anew: its loops died with its last life.

Only a change counts: the discovery named the life that the loop belongs to while the loop was paused, and later names
another one. A record that differs from the start may be older than the loop; then the answer to the next reroute
decides. What the discovery says can end only loops that have no route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

from skywire_node.loops.loops import Loops
from skywire_node.loops.routed_loop import RoutedLoop

MAX_WATCHED = 256  # nodes; the loops to any others learn it from their next reroute
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 1.0


class Lives:
    """One task for each node that paused loops lead to. `epoch_of` asks the discovery; raises Failure."""

    def __init__(
        self,
        loops: Loops,
        epoch_of: Callable[[PublicKey], Awaitable[int]],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._loops = loops
        self._epoch_of = epoch_of
        self._spawn = spawn
        self._watched: set[PublicKey] = set()

    @property
    def watched(self) -> int:
        """How many nodes are asked about."""
        return len(self._watched)

    def lost(self, loop: RoutedLoop) -> None:
        """A loop has lost its route: until it has another one, ask now and then if its other node was started anew."""
        remote = loop.remote.public_key
        if remote not in self._watched and len(self._watched) < MAX_WATCHED:
            self._watched.add(remote)
            self._spawn(self._watch(remote), "lives")

    async def _watch(self, remote: PublicKey) -> None:
        same: set[RoutedLoop] = set()
        pause = FIRST_PAUSE
        try:
            while waiting := self._waiting(remote):
                try:
                    epoch = await self._epoch_of(remote)
                except Failure:
                    pass  # away or overloaded: it is asked again, and reroutes find out without it
                else:
                    same.update(loop for loop in waiting if loop.remote_epoch == epoch)
                    for loop in waiting:
                        if loop.remote_epoch != epoch and loop in same and loop.waiting_for_route:
                            loop.ended_by(_reset(loop))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._watched.discard(remote)

    def _waiting(self, remote: PublicKey) -> list[RoutedLoop]:
        loops = self._loops.by_id.values()
        return [loop for loop in loops if loop.waiting_for_route and loop.remote.public_key == remote]


def _reset(loop: RoutedLoop) -> Failure:
    fields = FailureFields(hop_key=loop.remote.public_key, setup_id=loop.loop_id, retryable=True)
    return Failure(ErrorCode.LOOP_RESET, "the other node was started anew", fields)
