"""What transports carried on each day, kept over restarts: written once in a while, and when somebody looks."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey

from skywire_node.link.transport import Totals, Transport
from skywire_node.state.store import CarriedOnDay, Store

# What is carried around midnight may be counted a day late by this much.
KEEP_SECONDS = 60.0
KEEP_DAYS = 400
MAX_ROWS = 200_000
MAX_SHOWN = 10_000
# Of what could not be written yet.
MAX_UNWRITTEN = 20_000

Taken = Sequence[tuple[Transport, Totals]]


class TrafficKeeper:
    """Adds to the days while `run` runs. `take` returns what was carried since its last call."""

    def __init__(self, store: Store, take: Callable[[], Taken], *, epoch: Callable[[], float] = time.time) -> None:
        self._store = store
        self._take = take
        self._epoch = epoch
        self._unwritten: dict[tuple[UUID, str], CarriedOnDay] = {}
        self._writing = asyncio.Lock()
        self._failed = False
        self._log = structlog.get_logger(part="store")

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Write what was carried; what cannot be written is written later, and that is said once."""
        self._note(self._day())
        async with self._writing:
            rows = list(self._unwritten.values())
            if not rows:
                return
            self._unwritten = {}
            try:
                await self._store.add_traffic(rows, since=self._day(KEEP_DAYS - 1), most=MAX_ROWS)
            except Failure as failure:
                for row in rows:
                    self._add(row)
                if not self._failed:
                    self._log.error("traffic is not kept over a restart", reason=str(failure))
                self._failed = True
            else:
                self._failed = False

    async def listed(self, transports: Sequence[UUID], days: int) -> tuple[list[CarriedOnDay], bool]:
        """Return up to MAX_SHOWN rows, the newest day first, and whether there are more; raises Failure."""
        await self.keep()
        since = self._day(min(days or KEEP_DAYS, KEEP_DAYS) - 1)
        rows = await self._store.load_traffic(transports, since, MAX_SHOWN + 1)
        return rows[:MAX_SHOWN], len(rows) > MAX_SHOWN

    def _day(self, back: int = 0) -> str:
        today = datetime.datetime.fromtimestamp(self._epoch(), datetime.UTC).date()
        return (today - datetime.timedelta(days=back)).isoformat()

    def _note(self, day: str) -> None:
        for transport, totals in self._take():
            entry = transport.entry
            remote = PublicKey(transport.remote)
            self._add(CarriedOnDay(entry.transport_id, day, remote, entry.kind, entry.public, *totals))

    def _add(self, row: CarriedOnDay) -> None:
        key = row.transport_id, row.day
        before = self._unwritten.get(key)
        if before is not None:
            sums = (one + other for one, other in zip(before[-4:], row[-4:], strict=True))
            row = CarriedOnDay(*row[:-4], *sums)
        elif len(self._unwritten) >= MAX_UNWRITTEN:
            return
        self._unwritten[key] = row
