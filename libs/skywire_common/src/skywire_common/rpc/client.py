"""A channel to one peer: signed calls, failures as Failure, one corrected retry when clocks differ."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.keys import PublicKey
from skywire_common.rpc import identity, tracing
from skywire_common.rpc import token as bearer
from skywire_common.rpc.options import MAX_MESSAGE, channel_options, target
from skywire_common.rpc.status import from_error
from skywire_common.rpc.tls import TlsFiles, Watched, channel_credentials

R = TypeVar("R", bound=Message)
Metadata = tuple[tuple[str, str | bytes], ...]
# What calls get to end on a connection whose certificates were replaced.
RETIRE_S = 30.0


class RpcChannel:
    """Calls to one peer at "host:port" or "unix:/path"; make it in the running loop and close it.

    Replicas with one key are one peer at "ip:port,ip:port": each call asks the next, none that is away.
    `audience` is the peer's key and `secret` our own: both are needed for signed calls. `token` goes with every call.
    The offset of the peer's clock is learned from its first CLOCK_SKEW and kept.
    """

    def __init__(
        self,
        address: str,
        audience: PublicKey | None,
        secret: SecretKey | None,
        *,
        tls: TlsFiles | None = None,
        server_name: str = "",
        token: str = "",
        max_message: int = MAX_MESSAGE,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.address = address
        self._bearer = bearer.metadata(token) if token else ()
        self._audience = audience
        self._secret = secret
        self._clock = clock
        self._randomness = randomness
        self._offset_ms = 0
        self._closed = False
        self._options: list[tuple[str, int | str]] = [*channel_options(max_message, address)]
        if tls is not None and server_name:
            self._options.append(("grpc.ssl_target_name_override", server_name))
        self._tls = None if tls is None else Watched(tls, channel_credentials, time.monotonic)
        # Connections of earlier certificates, while calls on them end.
        self._retiring: set[asyncio.Task[None]] = set()
        self._connect()

    def _connect(self) -> None:
        """Make the gRPC channel, with the certificates in force."""
        if self._tls is None:
            self._channel = grpc.aio.insecure_channel(target(self.address), options=self._options)
        else:
            self._channel = grpc.aio.secure_channel(target(self.address), self._tls.current, options=self._options)
        # One of each per method: made once, kept.
        self._unary: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._streams: dict[str, grpc.aio.UnaryStreamMultiCallable[bytes, bytes]] = {}

    def _look_at_files(self) -> None:
        """Go on with new certificates if there are; calls under way have RETIRE_S to end where they began."""
        if self._tls is None or self._closed or not self._tls.changed():
            return
        task = asyncio.get_running_loop().create_task(self._channel.close(RETIRE_S))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._connect()

    def __repr__(self) -> str:
        return f"RpcChannel({self.address})"

    @property
    def offset_s(self) -> float:
        """Seconds that the peer's clock is ahead of ours; 0 while no call was refused for it."""
        return self._offset_ms / 1000

    async def call(
        self, path: str, request: Message, response_type: type[R], *, timeout: float, signed: bool = True
    ) -> R:
        """Call "/package.Service/Method" and return its answer within `timeout` seconds; raises Failure."""
        raw = request.SerializeToString()
        deadline = time.monotonic() + timeout
        with tracing.calling(path, request) as also:
            try:
                answer = await self._call_once(path, raw, timeout, signed, also)
            except Failure as failure:
                if not self._corrected(failure, signed):
                    raise
                answer = await self._call_once(path, raw, deadline - time.monotonic(), signed, also)
        return self._parsed(path, response_type, answer)

    async def stream(
        self, path: str, request: Message, response_type: type[R], *, signed: bool = False
    ) -> AsyncIterator[R]:
        """Call a method that answers with a stream and yield its messages; raises Failure. It has no deadline: a peer
        that is gone is noticed within 25 s. Close the iterator (`aclosing`) to end the call early.
        """
        raw = request.SerializeToString()
        begun = False
        for corrected in (False, True):
            try:
                async for answer in self._stream_once(path, raw, signed):
                    begun = True
                    yield self._parsed(path, response_type, answer)
            except Failure as failure:
                if begun or corrected or not self._corrected(failure, signed):
                    raise
            else:
                return

    async def close(self) -> None:
        """End the calls under way, which raise CLOSED, and the connection."""
        self._closed = True
        for task in self._retiring:
            task.cancel()
        await self._channel.close()

    async def _call_once(self, path: str, raw: bytes, timeout: float, signed: bool, also: Metadata) -> bytes:
        self._look_at_files()
        metadata = (*self._metadata(path, raw, signed), *also)
        callable_ = self._unary.get(path)
        if callable_ is None:
            callable_ = self._unary[path] = self._channel.unary_unary(path)
        try:
            call = callable_(raw, timeout=timeout, metadata=metadata)
        except grpc.aio.UsageError as error:
            raise self._closed_failure() from error
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_error(error, self.address) from None
        except asyncio.CancelledError:
            self._raise_if_closed()
            raise
        finally:
            # A call that is not awaited to its end is never collected.
            call.cancel()

    async def _stream_once(self, path: str, raw: bytes, signed: bool) -> AsyncIterator[bytes]:
        self._look_at_files()
        metadata = self._metadata(path, raw, signed)
        callable_ = self._streams.get(path)
        if callable_ is None:
            callable_ = self._streams[path] = self._channel.unary_stream(path)
        try:
            call = callable_(raw, metadata=metadata)
        except grpc.aio.UsageError as error:
            raise self._closed_failure() from error
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_error(error, self.address) from None
        except asyncio.CancelledError:
            self._raise_if_closed()
            raise
        finally:
            call.cancel()

    def _metadata(self, path: str, raw: bytes, signed: bool) -> Metadata:
        if self._closed:
            raise self._closed_failure()
        if not signed:
            return self._bearer
        if self._audience is None or self._secret is None:
            raise LocalError(f"a signed call to {self.address} needs its key and our own")
        value = identity.sign(
            self._secret,
            self._audience,
            path,
            raw,
            time_ms=self._now_ms() + self._offset_ms,
            random=self._randomness(identity.RANDOM_SIZE),
        )
        return ((identity.METADATA_KEY, value), *self._bearer)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _corrected(self, failure: Failure, signed: bool) -> bool:
        """Say whether the failure told the peer's time, having taken it over."""
        if not signed or failure.code is not ErrorCode.CLOCK_SKEW or not failure.fields.server_time_ms:
            return False
        self._offset_ms = failure.fields.server_time_ms - self._now_ms()
        return True

    def _raise_if_closed(self) -> None:
        """Tell a call that `close` ended from a task that was cancelled."""
        task = asyncio.current_task()
        if self._closed and task is not None and not task.cancelling():
            raise self._closed_failure() from None

    def _closed_failure(self) -> Failure:
        return Failure(ErrorCode.CLOSED, f"the channel to {self.address} is closed")

    def _parsed(self, path: str, response_type: type[R], raw: bytes) -> R:
        try:
            return response_type.FromString(raw)
        except ProtobufError as error:
            raise Failure(
                ErrorCode.INTERNAL, f"{self.address} answered {path} with something else than {response_type.__name__}"
            ) from error
