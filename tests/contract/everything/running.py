"""Run cases against an address. A target knows where a service is, and the keys and things that its cases speak of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from contract.everything.casebook import BOOKS, Words, answer_type, compare, method_of, request_of, who
from google.protobuf.message import Message
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.server import Access
from skywire_common.rpc.status import from_error

TIMEOUT_S = 20.0


@dataclass
class Target:
    """One service somewhere. `local` is the owner's unix socket, if it is within reach."""

    address: str
    audience: PublicKey | None
    local: str = ""
    keys: Mapping[str, SecretKey] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    has: frozenset[str] = frozenset()

    def runs(self, case: Mapping[str, Any]) -> bool:
        """Say whether the case asks for nothing that is not here."""
        return set(case.get("needs", ())) <= self.has | ({"local"} if self.local else set())


@asynccontextmanager
async def _channel(target: Target, address: str, secret: SecretKey | None) -> AsyncIterator[RpcChannel]:
    channel = RpcChannel(address, target.audience, secret)
    try:
        yield channel
    finally:
        await channel.close()


async def run(service: str, case: Mapping[str, Any], target: Target) -> None:
    """Run one case; raises AssertionError that names the step."""
    words = Words(target.known, target.keys)
    book = BOOKS[service]
    for number, step in enumerate(case["steps"], 1):
        try:
            await _step(service, book, step, target, words)
        except (AssertionError, Failure) as error:
            raise AssertionError(f"step {number} {step}: {error}") from error


async def _step(service: str, book: Mapping[str, Any], step: Mapping[str, Any], target: Target, words: Words) -> None:
    method = step["call"]
    local = who(book, method) is Access.LOCAL and not step.get("over_tcp")
    address = target.local if local else target.address
    secret = words.key(step["by"]) if "by" in step else None
    wanted = step.get("error")
    try:
        answer = await _call(service, step, target, address, secret, words)
    except Failure as failure:
        assert failure.code.value == wanted, f"failed with {failure.code.value}: {failure.cause}"
        return
    assert wanted is None, f"was answered, not refused with {wanted}"
    compare(step.get("expect", {}), answer, words)
    for name, path in step.get("save", {}).items():
        found: Any = answer
        for part in path.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        words.save(name, found)


async def _call(
    service: str, step: Mapping[str, Any], target: Target, address: str, secret: SecretKey | None, words: Words
) -> Message:
    """Make the call of a step; the answer of a stream is its first message, or an empty one if there is none."""
    method = step["call"]
    descriptor = method_of(service, method)
    path, answer = f"/{service}/{method}", answer_type(service, method)
    if descriptor.client_streaming:
        return await _carry(service, step, address, words)
    request = request_of(service, method, step.get("request", {}), words)
    async with _channel(target, address, secret) as channel:
        if not descriptor.server_streaming:
            return await channel.call(path, request, answer, timeout=TIMEOUT_S, signed=secret is not None)
        async with aclosing(channel.stream(path, request, answer, signed=secret is not None)) as stream:
            async for first in stream:
                return first
        return answer()


async def _carry(service: str, step: Mapping[str, Any], address: str, words: Words) -> Message:
    """Make a call with a stream of requests, read to its end, and return the last answer."""
    method = step["call"]
    answer = answer_type(service, method)
    requests = [request_of(service, method, one, words) for one in step["requests"]]
    last = answer()
    async with grpc.aio.insecure_channel(address) as channel:
        open_stream = channel.stream_stream(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        call = open_stream(iter(requests), timeout=TIMEOUT_S)
        try:
            async for one in call:
                last = one
        except grpc.aio.AioRpcError as error:
            raise from_error(error) from None
    return last


async def refusals(service: str, target: Target) -> list[str]:
    """Ask every method as somebody who may not; return what was not refused as it should be."""
    wrong = []
    book = BOOKS[service]
    for method in book["access"]:
        access = who(book, method)
        tries: list[tuple[str, dict[str, Any], ErrorCode]] = []
        if access in (Access.SIGNED, Access.TRUSTED):
            tries.append(("unsigned", {}, ErrorCode.UNAUTHENTICATED))
        if access is Access.TRUSTED:
            tries.append(("a stranger", {"by": "stranger"}, ErrorCode.PERMISSION_DENIED))
        if access is Access.LOCAL:
            tries.append(("over TCP", {"over_tcp": True}, ErrorCode.PERMISSION_DENIED))
        for name, how, code in tries:
            step = {"call": method, "error": code.value, **how}
            try:
                await _step(service, book, step, target, Words(target.known, target.keys))
            except AssertionError as error:
                wrong.append(f"{method} by {name}: {error}")
    return wrong
