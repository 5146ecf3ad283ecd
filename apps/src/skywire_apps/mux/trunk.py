"""The near end: one loop to one address for all connections, dialled when the first comes and again when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from skywire_app import Addr, App, Failure

from skywire_apps.mux.channel import Channel, Mux
from skywire_apps.report import Report

DIAL_TIMEOUT_S = 60.0
# A loop that carried nothing for so long, and up to twice as long, is given up: the next connection pays for a new one.
LINGER_S = 120.0


class Trunk:
    """Lend channels to one address."""

    def __init__(self, app: App, remote: Addr, report: Report) -> None:
        self._app = app
        self._remote = remote
        self._report = report
        self._mux: Mux | None = None
        self._dialling: asyncio.Task[Mux] | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Channel]:
        """Lend a channel; raises Failure, or TimeoutError if the way is not found in time."""
        channel = (await self._loop()).open()
        try:
            yield channel
        except BaseException:
            # Nobody has last words: the app ends, or there was no connection.
            channel.drop()
            raise
        await channel.close()

    async def __aenter__(self) -> Trunk:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the loop up; channels that are open break."""
        tasks = {*self._carrying, *filter(None, (self._dialling,))}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _loop(self) -> Mux:
        if self._mux is not None and not self._mux.over:
            return self._mux
        # Whoever comes meanwhile waits for the same loop, and for its failure.
        if self._dialling is None:
            self._dialling = asyncio.create_task(self._dial())
            self._dialling.add_done_callback(self._dialled)
        return await asyncio.shield(self._dialling)

    async def _dial(self) -> Mux:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            stream = await self._app.dial(self._remote)
        mux = Mux(stream, near=True, linger=LINGER_S)

        async def carry() -> None:
            try:
                # The far end opens none.
                await mux.run(lambda _channel: None)
            except Failure as failure:
                self._report.line(f"the loop to {self._remote} broke: {failure}", error=str(failure))
            finally:
                stream.close_soon()  # nobody is left who would read; a frozen exit must not hold this app

        task = asyncio.create_task(carry())
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        return mux

    def _dialled(self, task: asyncio.Task[Mux]) -> None:
        self._dialling = None
        # All who waited may have left: then nobody has asked for its failure.
        if not task.cancelled() and task.exception() is None:
            self._mux = task.result()
