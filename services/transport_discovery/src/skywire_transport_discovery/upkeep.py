"""What a replica does beside answering: follow the log, end leases, forget what is old, and say how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skywire_common.errors import Failure
from sqlalchemy import Connection
from structlog.typing import FilteringBoundLogger

from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.store import changes, migrate, nodes, prune

SWEEP_S = 0.5
PRUNE_S = 5.0
RETRY_S = 0.5
LISTEN_RETRY_S = 2.0


class Upkeep:
    """One replica's state and its tasks. `problem` is empty while the database answers and its schema is right."""

    def __init__(self, registry: Registry, log: FilteringBoundLogger, say_serving: Callable[[bool], None]) -> None:
        """`say_serving` is called with each change of whether this replica serves."""
        self.problem = "starting"
        self.leases_ended = 0
        self.rows_pruned = 0
        self._unwritable = False
        self._registry = registry
        self._feed: Feed = registry.feed
        self._database = registry.database
        self._log = log
        self._say_serving = say_serving
        self._tried = asyncio.Event()

    async def tried(self) -> None:
        """Wait until it is known for the first time whether the database answers."""
        await self._tried.wait()

    async def follow(self) -> None:
        """Keep the graph at what the log says, for ever."""
        while True:
            problem = await self._step()
            if problem != self.problem:
                if problem:
                    self._log.error("not serving", problem=problem)
                else:
                    self._log.info("serving", revision=self._feed.ring.revision)
                self.problem = problem
                self._say_serving(not problem)
            self._tried.set()
            if problem:
                await asyncio.sleep(RETRY_S)
            else:
                await self._feed.hinted()

    async def _step(self) -> str:
        try:
            if self.problem or self._unwritable:
                await self._ready_schema()
                schema = await self._database.read(_schema)
                if not migrate.serves(schema):
                    return (
                        f"the schema is at {schema or 'nothing'}, this program needs {migrate.newest()}: "
                        "run skywire-discovery migrate"
                    )
                if schema > migrate.newest():
                    self._log.warning("the schema is newer than this program", schema=schema, known=migrate.newest())
                # A full disk, a read-only file, a standby: they answer, but take no writes.
                await self._database.write(nodes.probe)
                self._unwritable = False
            if self._feed.loaded:
                await self._feed.poll()
            else:
                await self._feed.load()
        except Failure as failure:
            return failure.cause
        return ""

    async def _ready_schema(self) -> None:
        """Migrate SQLite's file, which belongs to this process; PostgreSQL's schema is the operator's to migrate."""
        if self._database.dialect == "sqlite":
            await self._database.upgrade()

    async def sweep(self) -> None:
        """End leases when their time is over, for ever."""
        while True:
            if not self.problem:
                try:
                    await self._end_leases()
                except Failure as failure:
                    # Every sweep writes, so that a database that can only be read is noticed soon.
                    self._unwritable = True
                    self._feed.hint()
                    self._log.warning("cannot end leases", reason=failure.cause)
            await asyncio.sleep(SWEEP_S)

    async def _end_leases(self) -> None:
        while await self._database.read(nodes.any_expired):
            ended = await self._registry.write(nodes.sweep)
            self.leases_ended += ended
            if ended:
                self._log.info("leases ended", count=ended)

    async def prune(self) -> None:
        """Forget what is old, for ever."""
        while True:
            await asyncio.sleep(PRUNE_S)
            if self.problem:
                continue
            try:
                while gone := await self._registry.write(prune.prune):
                    self.rows_pruned += gone
                while await self._database.write(nodes.close_days):
                    pass
            except Failure as failure:
                self._log.warning("cannot prune", reason=failure.cause)

    async def listen(self, url: str) -> None:
        """Turn PostgreSQL's notifications into hints, for ever; without them polling is enough."""
        # SQLite's processes need no driver of PostgreSQL's.
        from skywire_transport_discovery.store.postgres import notifications

        while True:
            try:
                async for _ in notifications(url, changes.CHANNEL):
                    self._feed.hint()
            except Failure as failure:
                self._log.debug("no notifications", reason=failure.cause)
            await asyncio.sleep(LISTEN_RETRY_S)


def _schema(db: Connection) -> str:
    return migrate.current(db) or ""
