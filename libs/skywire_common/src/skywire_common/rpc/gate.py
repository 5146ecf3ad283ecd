"""The one place that every incoming call passes: who may call, who calls, how it ended.

For each method the interceptor replaces the request's deserializer, so that the signature is checked over the bytes
that came, and wraps the handler:

    count · local socket? · identity · trusted? · limits · first use? · parse · handler · failure to status · count

Handlers see only a verified identity (`caller`) and raise Failure; nothing else crosses to the peer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError as ProtobufError

from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LocalError
from skywire_common.keys import PublicKey
from skywire_common.rpc import identity, token, tracing
from skywire_common.rpc.identity import Reason, Refused, Stamp
from skywire_common.rpc.metrics import CallMetrics, MethodMetrics
from skywire_common.rpc.replays import ReplayGuard
from skywire_common.rpc.status import STATUS_OF, to_status

# What may be under way at one server at once: calls of all peers, calls of one key (a setup node calls a node for
# every loop that passes it), and, of the calls, streams.
MAX_CALLS = 8192
MAX_CALLS_PER_KEY = 2048
MAX_STREAMS = 4096

# A service that is full is alive; its supervisor must hear so.
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Any]

_CALLER: ContextVar[PublicKey] = ContextVar("caller")


class Access(Enum):
    """Who may call a method."""

    ANYONE = "anyone"
    SIGNED = "signed"  # any key, verified
    TRUSTED = "trusted"  # a key that the service's config trusts, verified
    LOCAL = "local"  # over a unix socket only
    TOKEN = "token"  # noqa: S105 - whoever brings the server's token


def caller(context: Context) -> PublicKey:
    """Return the verified key of whoever makes the call under way; the method's access is SIGNED or TRUSTED.

    Raises LocalError in any other method: an identity that nobody checked is none.
    """
    try:
        return _CALLER.get()
    except LookupError as error:
        raise LocalError("this method takes unsigned calls: its caller is not known") from error


class _Method(NamedTuple):
    """What the gate keeps of one method; `parse` is None where gRPC parses a stream of requests."""

    path: str
    access: Access
    parse: Callable[[bytes], Any] | None
    metrics: MethodMetrics
    streams: bool


class Gate(grpc.aio.ServerInterceptor):
    """Checks calls, turns failures into statuses, counts, and ends streams when the server stops."""

    def __init__(
        self,
        audience: PublicKey,
        access: Mapping[str, Access],
        trusted: Callable[[PublicKey], bool],
        replays: ReplayGuard,
        metrics: CallMetrics,
        clock: Callable[[], float] = time.time,
        bearer: Callable[[], str] = lambda: "",
    ) -> None:
        """`bearer` tells the token of methods with access TOKEN, empty: nobody may call them."""
        self._bearer = bearer
        self._audience = audience
        self._access = access
        self._trusted = trusted
        self._replays = replays
        self._metrics = metrics
        self._clock = clock
        self._guarded: dict[str, Handler] = {}
        self._under_way = 0
        self._calls: dict[PublicKey, int] = {}
        self._streams: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._log = structlog.get_logger(part="rpc")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the guarded handler of the method; None for a method that nobody serves."""
        path = handler_call_details.method
        guarded = self._guarded.get(path)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            guarded = self._guarded[path] = self._guard(path, handler)
        return guarded

    def end_streams(self) -> None:
        """End every open stream with STOPPING, and refuse each that begins from now on."""
        self._stopping = True
        self._ended.update(self._streams)
        for task in self._streams:
            task.cancel()

    def _guard(self, path: str, handler: Handler) -> Handler:
        kind, make, behaviour = _shape(handler)
        access = self._access[path]
        method = _Method(
            path,
            access,
            None if handler.request_streaming else handler.request_deserializer,
            self._metrics.method(kind, path, refuses=access is not Access.ANYONE),
            handler.request_streaming or handler.response_streaming,
        )
        guarded: Handler = make(
            self._guarded_call(method, _written(behaviour) if handler.response_streaming else behaviour),
            request_deserializer=handler.request_deserializer if handler.request_streaming else None,
            response_serializer=handler.response_serializer,
        )
        return guarded

    def _guarded_call(self, method: _Method, behaviour: Behaviour) -> Behaviour:
        """Return what gRPC calls with the request as it came."""

        async def call(request: Any, context: Context) -> Any:
            began = method.metrics.begin()
            code = grpc.StatusCode.CANCELLED
            try:
                with self._place(method), self._stream(method), self._identity(method, request, context) as stamp:
                    if stamp is not None:
                        await self._use_once(stamp)
                        _CALLER.set(stamp.key)
                    parsed = _parsed(method, request)
                    with tracing.serving(method.path, parsed, context):
                        answer = await behaviour(parsed, context)
                code = grpc.StatusCode.OK
                return answer  # noqa: TRY300 -- belongs to the line above
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task not in self._ended:
                    raise
                task.uncancel()
                failure = _stopping()
                code = STATUS_OF[failure.code]
            except grpc.aio.AbortError:
                code = grpc.StatusCode.UNKNOWN
                raise
            except Exception as error:  # noqa: BLE001 -- told apart below; what nobody expected is logged
                failure = self._failure(method, error)
                code = STATUS_OF[failure.code]
            finally:
                method.metrics.end(began, code.name)
            return await context.abort(*to_status(failure))

        return call

    @contextmanager
    def _place(self, method: _Method) -> Iterator[None]:
        """Hold a place among all calls; raises Failure if there is none."""
        if self._under_way >= MAX_CALLS and method.path != _HEALTH_CHECK:
            raise _limit("calls", MAX_CALLS)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @contextmanager
    def _stream(self, method: _Method) -> Iterator[None]:
        """Hold a stream's place among the open ones; raises Failure if there is none, or the server stops."""
        task = asyncio.current_task()
        if task is None or not method.streams:
            yield
            return
        if self._stopping:
            raise _stopping()
        if len(self._streams) >= MAX_STREAMS:
            raise _limit("streams", MAX_STREAMS)
        self._streams.add(task)
        try:
            yield
        finally:
            self._streams.discard(task)

    @contextmanager
    def _identity(self, method: _Method, request: bytes, context: Context) -> Iterator[Stamp | None]:
        """Check who calls, and hold a place among the calls of that key; None: the method wants no identity."""
        if method.access is Access.LOCAL and not context.peer().startswith("unix:"):
            raise Refused(Reason.NOT_LOCAL, ErrorCode.PERMISSION_DENIED, f"{method.path} is for the local socket only")
        if method.access is Access.TOKEN and not token.bears(_metadata(context, token.METADATA_KEY), self._bearer()):
            raise Refused(Reason.TOKEN, ErrorCode.PERMISSION_DENIED, "the token is missing or wrong")
        if method.access in (Access.ANYONE, Access.LOCAL, Access.TOKEN):
            yield None
            return
        values = _metadata(context, identity.METADATA_KEY)
        now_ms = int(self._clock() * 1000)
        stamp = identity.check(values, self._audience, method.path, request, now_ms)
        if method.access is Access.TRUSTED and not self._trusted(stamp.key):
            raise Refused(Reason.UNTRUSTED, ErrorCode.PERMISSION_DENIED, f"{stamp.key} is not trusted here")
        calls = self._calls.get(stamp.key, 0)
        if calls >= MAX_CALLS_PER_KEY:
            raise _limit("calls_per_key", MAX_CALLS_PER_KEY)
        self._calls[stamp.key] = calls + 1
        try:
            yield stamp
        finally:
            left = self._calls[stamp.key] - 1
            if left:
                self._calls[stamp.key] = left
            else:
                del self._calls[stamp.key]

    async def _use_once(self, stamp: Stamp) -> None:
        """Raise Refused if the call came before."""
        try:
            first = await self._replays.first_use(stamp.key, stamp.random, stamp.until)
        except Failure as failure:
            if failure.code is ErrorCode.LIMIT_REACHED:
                raise Refused(Reason.LIMIT, failure.code, failure.cause, failure.fields) from failure
            raise
        if not first:
            raise Refused(Reason.REPLAYED, ErrorCode.REPLAYED, "this call came before; each is good once")

    def _failure(self, method: _Method, error: Exception) -> Failure:
        """Say what the peer may know of an error."""
        if isinstance(error, Refused):
            method.metrics.refused(error.reason)
            return error
        if isinstance(error, Failure):
            return error
        if isinstance(error, DecodeError):
            return Failure(ErrorCode.INVALID_ARGUMENT, str(error))
        if isinstance(error, NotImplementedError):
            return Failure(ErrorCode.UNIMPLEMENTED, f"{method.path} is not implemented here")
        self._log.error("call failed", method=method.path, exc_info=error)
        return Failure(ErrorCode.INTERNAL, "internal error; the log of the service says more")


def _shape(handler: Handler) -> tuple[str, Callable[..., Handler], Behaviour]:
    """Return the kind of a method as metrics name it, the constructor of its handler, and what it runs."""
    if handler.request_streaming and handler.response_streaming:
        return "bidi_stream", grpc.stream_stream_rpc_method_handler, handler.stream_stream  # type: ignore[return-value]
    if handler.request_streaming:
        return "client_stream", grpc.stream_unary_rpc_method_handler, handler.stream_unary  # type: ignore[return-value]
    if handler.response_streaming:
        return "server_stream", grpc.unary_stream_rpc_method_handler, handler.unary_stream  # type: ignore[return-value]
    return "unary", grpc.unary_unary_rpc_method_handler, handler.unary_unary  # type: ignore[return-value]


def _written(behaviour: Behaviour) -> Behaviour:
    """Return a coroutine function that writes what the behaviour yields, if it is a generator."""

    async def write(request: Any, context: Context) -> None:
        answers = behaviour(request, context)
        if not hasattr(answers, "__aiter__"):
            await answers
            return
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    return write


def _metadata(context: Context, wanted: str) -> list[Any]:
    return [value for key, value in context.invocation_metadata() or () if key == wanted]


def _parsed(method: _Method, request: Any) -> Any:
    if method.parse is None:
        return request
    try:
        return method.parse(request)
    except ProtobufError as error:
        raise DecodeError(f"the request of {method.path} is not the message that it should be") from error


def _limit(name: str, bound: int) -> Refused:
    return Refused(
        Reason.LIMIT,
        ErrorCode.LIMIT_REACHED,
        f"{bound} are under way already",
        FailureFields(limit=name, retryable=True),
    )


def _stopping() -> Failure:
    return Failure(ErrorCode.STOPPING, "the service stops", FailureFields(retryable=True))
