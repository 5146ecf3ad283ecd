"""The control plane's network: calls between processes, which answer late, never, or die in the middle.

A call serialises its request, travels, runs the real servicer's method as a task of the called process, and travels
back. `Line` is a process's side of it, in the place of `RpcChannel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from google.protobuf.message import Message
from sim.clock import Process, VirtualLoop
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc import gate
from skywire_common.rpc.health import Health

R = TypeVar("R", bound=Message)


class Server:
    """Who answers calls: a process, its servicer, how slow it is. A restart changes process and servicer."""

    def __init__(self, name: str, key: PublicKey) -> None:
        self.name = name
        self.key = key
        self.process: Process
        self.servicer: Any = None
        self.health = Health()
        self.slow = 0.0  # seconds more than usual before a call is looked at
        self.calls: dict[_Call, None] = {}

    def died(self) -> None:
        """Everyone who waits for an answer finds the connection reset."""
        for call in list(self.calls):
            call.fail(Failure(ErrorCode.UNAVAILABLE, "the connection was reset", FailureFields(retryable=True)))


class _Call:
    def __init__(self, network: ControlNetwork, server: Server, caller: Process, by: PublicKey) -> None:
        self.network = network
        self.server = server
        self.caller = caller
        self.by = by
        self.answer: asyncio.Future[bytes] = network.loop.create_future()
        self.task: asyncio.Task[None] | None = None

    def give_up(self) -> None:
        """The caller waits no longer; the server hears of it, and what it has begun may happen all the same."""
        if self.task is not None:
            self.task.cancel()
        self.server.calls.pop(self, None)

    def fail(self, failure: Failure) -> None:
        self.reply(lambda: self.answer.set_exception(failure))

    def reply(self, say: Callable[[], None]) -> None:
        """Have the caller hear the answer after its way back."""
        self.server.calls.pop(self, None)
        if self.network.loses_answer():
            return

        def hear() -> None:
            if not self.answer.done():
                say()

        self.network.later(lambda: self.caller.receive(hear))


class ControlNetwork:
    """Latency, and the counting of calls: `observe` hears each, before it goes and after it was answered."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, context: Any) -> None:
        self.loop = loop
        self.observe: Callable[[str, Process, Server, str], None] = lambda when, caller, server, method: None
        self.answers_lost = 0.0  # the share of answers that do not arrive, of calls that were carried out
        self._rng = rng
        self._context = context

    def loses_answer(self) -> bool:
        """Say whether an answer gets lost."""
        return self.answers_lost > 0 and self._rng.random() < self.answers_lost

    def later(self, call: Callable[[], None]) -> None:
        """Do something after the way over the network."""
        self.loop.call_later(self._rng.uniform(0.0005, 0.004), call, context=self._context)

    async def call(
        self, server: Server, by: PublicKey, path: str, request: Message, response_type: type[R], timeout: float
    ) -> R:
        """Make one call; raises Failure."""
        caller = Process.current()
        method = path.rpartition("/")[2]
        self._mind("before", caller, server, method)
        call = _Call(self, server, caller, by)
        sent = request.SerializeToString()
        self.later(lambda: self._arrive(call, method, type(request), sent))
        try:
            async with asyncio.timeout(timeout):
                answered = await call.answer
        except TimeoutError as error:
            call.give_up()
            raise Failure(
                ErrorCode.DEADLINE, f"no answer within {timeout:.1f} s", FailureFields(retryable=True)
            ) from error
        except asyncio.CancelledError:
            call.give_up()
            raise
        finally:
            if call.answer.done() and not call.answer.cancelled():
                call.answer.exception()  # whoever waited may be gone
            self._mind("after", caller, server, method)
        answer = response_type()
        answer.ParseFromString(answered)
        return answer

    def _mind(self, when: str, caller: Process, server: Server, method: str) -> None:
        if not caller.alive:
            raise asyncio.CancelledError
        self.observe(when, caller, server, method)
        if not caller.alive:  # killed just here
            raise asyncio.CancelledError

    def _arrive(self, call: _Call, method: str, kind: type[Message], sent: bytes) -> None:
        server = call.server
        if not server.process.alive:
            call.fail(Failure(ErrorCode.UNAVAILABLE, "nobody listens there", FailureFields(retryable=True)))
            return
        server.calls[call] = None
        server.process.receive(lambda: self._begin(call, method, kind, sent))

    def _begin(self, call: _Call, method: str, kind: type[Message], sent: bytes) -> None:
        context = call.server.process.context.copy()
        context.run(gate._CALLER.set, call.by)
        call.task = self.loop.create_task(self._serve(call, method, kind, sent), context=context)

    async def _serve(self, call: _Call, method: str, kind: type[Message], sent: bytes) -> None:
        server = call.server
        if server.slow:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(server.slow)
        request = kind()
        request.ParseFromString(sent)
        try:
            servicer = server.servicer if hasattr(server.servicer, method) else server.health
            answer = (await getattr(servicer, method)(request, None)).SerializeToString()
        except asyncio.CancelledError:
            return  # the caller gave up, or the process died
        except Failure as failure:
            failed = Failure(failure.code, failure.cause, failure.fields)
            call.reply(lambda: call.answer.set_exception(failed))
        except DecodeError as error:
            call.fail(Failure(ErrorCode.INVALID_ARGUMENT, str(error)))
        except Exception as error:  # noqa: BLE001 - any other is a bug, and the test says so
            self.loop.bugs.append(f"{server.name}.{method} raised {error!r}")
            call.fail(Failure(ErrorCode.INTERNAL, repr(error)))
        else:
            call.reply(lambda: call.answer.set_result(answer))


class Line:
    """A channel to one server: what `RpcChannel` is on real sockets."""

    def __init__(self, network: ControlNetwork, server: Server, by: PublicKey) -> None:
        self._network = network
        self._server = server
        self._by = by

    async def call(
        self, path: str, request: Message, response_type: type[R], *, timeout: float, signed: bool = True
    ) -> R:
        """Call; raises Failure."""
        return await self._network.call(self._server, self._by, path, request, response_type, timeout)


class Lines:
    """A setup node's directory: lines to nodes by their keys."""

    def __init__(self, network: ControlNetwork, servers: dict[PublicKey, Any], by: PublicKey) -> None:
        self._network = network
        self._servers = servers
        self._by = by

    @asynccontextmanager
    async def channel(self, node: PublicKey) -> AsyncIterator[Line]:
        """Lend a line to a node; raises Failure (UNKNOWN_NODE)."""
        if node not in self._servers:
            raise Failure(ErrorCode.UNKNOWN_NODE, f"no node {node}")
        yield Line(self._network, self._servers[node].server, self._by)

    def knows(self, node: PublicKey) -> bool:
        """Every line is fresh."""
        return False

    def forget(self, node: PublicKey, channel: Line) -> None:
        """Lines are not kept."""
