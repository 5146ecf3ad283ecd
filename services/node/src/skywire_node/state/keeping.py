"""Write the table's changes to the store once a second, whatever the disk does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from skywire_common.errors import Failure

from skywire_node.routing.table import RoutingTable
from skywire_node.state.store import Store

KEEP_SECONDS = 1.0
# A disk that is full is not written to in full every second.
KEEP_AGAIN_SECONDS = 10.0


class RuleKeeper:
    """Keeps rules while `run` runs; `reason` says why it cannot just now, empty if it can."""

    def __init__(
        self,
        store: Store,
        table: RoutingTable,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.reason = ""
        self._store = store
        self._table = table
        self._monotonic = monotonic
        self._epoch = epoch
        self._log = structlog.get_logger(part="store")

    async def load(self) -> int:
        """Take back the rules of the last run; return how many are live."""
        return self._table.restore(await self._store.load_rules(), self._monotonic(), self._epoch())

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            await asyncio.sleep(KEEP_AGAIN_SECONDS if self.reason else KEEP_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Write what changed; a failure is remembered and said once, and forwarding goes on."""
        try:
            await self._store.keep_rules(self._table, self._monotonic(), self._epoch())
        except Failure as failure:
            if not self.reason:
                self._log.error("rules are not kept over a restart", reason=str(failure))
            self.reason = failure.cause
        else:
            if self.reason:
                self._log.info("rules are kept again")
            self.reason = ""
