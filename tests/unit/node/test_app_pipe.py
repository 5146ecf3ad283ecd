"""Many small frames in one write to an app."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from skywire_node.apps.pipe import MAX_PARTS, AppPipe
from skywire_node.apps.session import State
from skywire_node.routing.flow import Flow


class Talkative:
    """A session with more answers than one write takes."""

    state = State.READY

    def __init__(self) -> None:
        self.frames = [b"%05d" % number for number in range(2 * MAX_PARTS + 9)]

    @property
    def waiting(self) -> bool:
        return bool(self.frames)

    def take(self, now: float) -> list[bytes]:
        taken, self.frames = self.frames, []
        return taken


async def test_parts_of_one_write_are_bounded() -> None:
    (from_app, app_writes), (app_reads, to_app) = os.pipe(), os.pipe()
    for fd in (from_app, to_app):
        os.set_blocking(fd, False)
    session: Any = Talkative()
    whole = b"".join(session.frames)
    pipe = AppPipe(from_app, to_app, Flow(asyncio.get_running_loop().call_soon), lambda: None)
    try:
        pipe.run(session)
        pipe.flush()
        assert os.read(app_reads, 1 << 16) == whole
    finally:
        pipe.close()
        os.close(app_writes)
        os.close(app_reads)
