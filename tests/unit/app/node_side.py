"""A node of one process for SDK tests: real sessions over real pipes, local loops between the apps, no network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from skywire_app.pipe import VARIABLE
from skywire_common.appframes import LoopAddr
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import Addr, PublicKey
from skywire_node.apps.pipe import AppPipe
from skywire_node.apps.session import AppSession
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.routing.flow import Flow

KEY = PublicKey(b"\x02" + bytes(range(32)))
REFUSAL = FailureFields(
    phase=Phase.CONFIRM,
    hop_index=2,
    hop_key=KEY,
    transport_id=bytes(range(16)),
    setup_id=bytes(range(16, 32)),
    retryable=True,
)


class Attached:
    """One app's session and pipe, and the Shell between them."""

    def __init__(self, node: Node, name: str, version: str, port: int) -> None:
        self.node = node
        self.port = port
        to_app, from_app = os.pipe(), os.pipe()
        self.app_fds = (to_app[0], from_app[1])
        for fd in (to_app[1], from_app[0]):
            os.set_blocking(fd, False)
        self.ended = asyncio.Event()
        self.pipe = AppPipe(from_app[0], to_app[1], Flow(asyncio.get_running_loop().call_soon), self._ended)
        self.session = AppSession(name, version, self)
        self.pipe.run(self.session)

    def wake(self) -> None:
        self.pipe.wake()

    def wake_later(self) -> None:
        self.pipe.wake_later()

    def ready(self) -> None:
        pass

    def loop_over(self, addr: LoopAddr) -> None:
        self.node.over.append(addr)

    def dial(self, request_id: int, remote: Addr) -> None:
        listener = self.node.others.get(remote.public_key, self.node).listeners.get(remote.port)
        try:
            if listener is None:
                raise Failure(ErrorCode.PORT_CLOSED, f"no app has port {remote.port}", REFUSAL)
            self.node.next_port += 1
            ours, theirs = LocalLoop.pair(Addr(self.node.key, self.node.next_port), remote)
            listener.session.offer(theirs)
        except Failure as failure:
            self.session.dial_failed(request_id, failure)
        else:
            self.session.dialled(request_id, ours)

    def _ended(self) -> None:
        self.session.close(None)
        self.ended.set()


class Node:
    """The apps by port. `others` are nodes whose apps can be dialled from here."""

    def __init__(self, key: PublicKey = KEY) -> None:
        self.key = key
        self.others: dict[PublicKey, Node] = {}
        self.listeners: dict[int, Attached] = {}
        self.all: list[Attached] = []
        self.over: list[LoopAddr] = []
        self.next_port = 50_000

    @contextmanager
    def app(self, name: str = "app", version: str = "1.0", port: int = 0) -> Iterator[Attached]:
        """Name the descriptors of a new app in the environment while it sets itself up."""
        attached = Attached(self, name, version, port)
        self.all.append(attached)
        if port:
            self.listeners[port] = attached
        os.environ[VARIABLE] = ",".join(map(str, attached.app_fds))
        try:
            yield attached
        finally:
            del os.environ[VARIABLE]

    def close(self) -> None:
        for attached in self.all:
            attached.pipe.close()
            attached.session.close(None)
