"""Calls to setup nodes: each in turn until one answers, with the same set-up id.

A failure that names a hop is the hop's and ends the call: another setup node would meet the same hop. One that names
none is the setup node's: the next one is asked, and this one stands last for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog
from google.protobuf.message import Message
from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire_common.convert import fields
from skywire_common.convert.routes import addr_to, path_pair_to
from skywire_common.convert.rules import node_rules_from, node_rules_to, placed_rules_from
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.health import WHOLE
from skywire_common.rpc.probe import state_of
from skywire_common.rules import AppRule, ForwardRule, NodeRules, PlacedRule

from skywire_node.loops.loop_setup import Made, Routes, Wanted

SETUP_SECONDS = 11.0
# While there is another setup node to ask. A good one answers within 50 ms, or within 2 s that a hop does not.
TRY_SECONDS = 5.0
# One that has not answered for so long is asked whether it is alive; a frozen one is not waited for.
PROBE_AFTER_SECONDS = 1.0
PROBE_SECONDS = 1.0
RENEW_SECONDS = 5.0
CLOSE_SECONDS = 3.0
STANDS_LAST_SECONDS = 30.0
# It has not failed yet, but whoever asks meanwhile asks another one first; less than what candidates are apart.
SLOW_SECONDS = 0.25
MAX_CAUSE = 200
# Said by a hop, but about the setup node that asked: another one may be welcome there.
_ANOTHER_MAY = (ErrorCode.PERMISSION_DENIED, ErrorCode.UNAUTHENTICATED, ErrorCode.CLOCK_SKEW)
# No setup node would see it otherwise.
_FINAL = (ErrorCode.INVALID_ARGUMENT,)
_PACKAGE = "/skywire.setup_node.v1.SetupNode/"

R = TypeVar("R", bound=Message)


class SetupPeer:
    """One setup node of the config."""

    __slots__ = ("asked_at", "channel", "failed_at", "public_key")

    def __init__(self, public_key: PublicKey, channel: RpcChannel) -> None:
        self.public_key = public_key
        self.channel = channel
        self.failed_at: float | None = None
        self.asked_at: list[float] = []  # of calls that it has not answered yet, the first one first


class SetupNodes:
    """The setup nodes of the config, asked in its order.

    One that owes an answer for SLOW_SECONDS comes after the others, and one that failed lately comes last.
    """

    def __init__(self, peers: Sequence[SetupPeer], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._peers = tuple(peers)
        self._monotonic = monotonic
        self._log = structlog.get_logger(part="setup")

    async def create_loop(self, wanted: Wanted, noise_message: Callable[[], bytes]) -> Made:
        """Have a loop made; raises Failure.

        `noise_message` begins a new handshake and returns its first message, 49 bytes: once for each setup node that
        is asked, because the responder refuses a message that it has seen.
        """

        def request(attempt: int) -> Message:
            return pb.CreateLoopRequest(
                setup_id=wanted.setup_id,
                initiator=addr_to(wanted.initiator),
                responder=addr_to(wanted.responder),
                initiator_epoch=wanted.epoch,
                routes=path_pair_to(wanted.routes),
                initiator_ids=pb.InitiatorIds(forward=wanted.forward_id, app=wanted.app_id),
                noise_message=noise_message(),
                time_to_live_s=wanted.time_to_live,
                edge_salt=wanted.edge_salt,
                attempt=attempt,
            )

        answer, peer = await self._ask("CreateLoop", request, pb.CreateLoopResponse, wanted.setup_id, SETUP_SECONDS)
        return _made(wanted, answer, answer.noise_message, answer.responder_epoch, peer)

    async def reroute_loop(self, wanted: Wanted) -> Made:
        """Have new routes made for a loop; raises Failure."""

        def request(attempt: int) -> Message:
            return pb.RerouteLoopRequest(
                setup_id=wanted.setup_id,
                loop_id=wanted.loop_id,
                initiator=addr_to(wanted.initiator),
                responder=addr_to(wanted.responder),
                initiator_epoch=wanted.epoch,
                routes=path_pair_to(wanted.routes),
                initiator_ids=pb.InitiatorIds(forward=wanted.forward_id, app=wanted.app_id),
                time_to_live_s=wanted.time_to_live,
                edge_salt=wanted.edge_salt,
                attempt=attempt,
            )

        answer, peer = await self._ask("RerouteLoop", request, pb.RerouteLoopResponse, wanted.setup_id, SETUP_SECONDS)
        return _made(wanted, answer, b"", 0, peer)

    async def renew_loop(self, routes: Routes, rules: Sequence[NodeRules], time_to_live: int = 0) -> int:
        """Have a loop's rules on other nodes extended; return the new expiry, epoch seconds, for this node's own.

        `rules`: all of these routes, or some. Raises Failure: ROUTE_LOST names a node that has lost some.
        """
        setup_id = routes.setup_id
        request = pb.RenewLoopRequest(
            setup_id=setup_id, rules=node_rules_to(rules), time_to_live_s=time_to_live, edge_salt=routes.edge_salt
        )
        answer, _ = await self._ask("RenewLoop", lambda _: request, pb.RenewLoopResponse, setup_id, RENEW_SECONDS)
        return int(answer.expiry)

    async def close_loop(
        self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str
    ) -> tuple[PublicKey, ...]:
        """Have a loop's rules removed on other nodes and the other edge told; return the nodes not reached.

        Raises Failure if no setup node answers: then all rules end by their leases.
        """
        request = pb.CloseLoopRequest(
            setup_id=routes.setup_id,
            rules=node_rules_to(routes.rules),
            loop_id=loop_id,
            tell=tell or b"",
            reason=reason[:MAX_CAUSE],
            edge_salt=routes.edge_salt,
        )
        answer, _ = await self._ask(
            "CloseLoop", lambda _: request, pb.CloseLoopResponse, routes.setup_id, CLOSE_SECONDS
        )
        return tuple(PublicKey(key) for key in answer.unreached)

    async def _ask(
        self, method: str, request: Callable[[int], Message], answer: type[R], setup_id: bytes, seconds: float
    ) -> tuple[R, PublicKey]:
        """Ask one setup node after the other within `seconds`; return the answer and whose it is.

        `request` makes the message for one setup node, given how many were asked before it. Raises Failure.
        """
        ends = self._monotonic() + seconds
        causes: list[str] = []
        peers = self._in_order()
        for before, peer in enumerate(peers):
            left = ends - self._monotonic()
            if left <= 0:
                break
            last = before + 1 == len(peers)
            timeout = left if last else min(TRY_SECONDS, left)
            asked_at = self._monotonic()
            peer.asked_at.append(asked_at)
            call = peer.channel.call(_PACKAGE + method, request(before), answer, timeout=timeout)
            try:
                answered = await (call if last else _while_alive(peer.channel, call))
            except Failure as failure:
                if failure.code in _FINAL or (failure.fields.hop_key and failure.code not in _ANOTHER_MAY):
                    raise failure.within(setup_id=setup_id) from failure
                peer.failed_at = self._monotonic()
                causes.append(f"{peer.public_key.short}: {failure.code}: {failure.cause[:MAX_CAUSE]}")
                self._log.warning(
                    "setup node failed", call=method, peer=peer.public_key, reason=str(failure), setup_id=setup_id.hex()
                )
            else:
                peer.failed_at = None
                return answered, peer.public_key
            finally:
                peer.asked_at.remove(asked_at)
        cause = "; ".join(causes) or "the config names no setup node"
        raise Failure(
            ErrorCode.NO_SETUP_NODE,
            f"no setup node made it: {cause}",
            FailureFields(setup_id=setup_id, retryable=bool(causes)),
        )

    def _in_order(self) -> list[SetupPeer]:
        now = self._monotonic()
        lately = now - STANDS_LAST_SECONDS

        def place(peer: SetupPeer) -> tuple[float, bool]:
            slow = bool(peer.asked_at) and now - peer.asked_at[0] >= SLOW_SECONDS
            return max(lately, peer.failed_at or lately), slow

        return sorted(self._peers, key=place)


async def _while_alive(channel: RpcChannel, call: Coroutine[Any, Any, R]) -> R:
    """Return what a call returns; raises its Failure, or one before that as soon as the peer seems to be dead."""
    calling = asyncio.ensure_future(call)
    proving = asyncio.ensure_future(_sign_of_life(channel))
    try:
        await asyncio.wait((calling, proving), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            proving.result()
        return await calling
    finally:
        calling.cancel()
        proving.cancel()
        await asyncio.gather(calling, proving, return_exceptions=True)


async def _sign_of_life(channel: RpcChannel) -> None:
    """Wait for PROBE_AFTER_SECONDS, then return once the peer says anything; raises Failure if it does not."""
    await asyncio.sleep(PROBE_AFTER_SECONDS)
    try:
        await state_of(channel, WHOLE, PROBE_SECONDS)
    except Failure as failure:
        raise Failure(failure.code, f"it stands still: {failure.cause}", failure.fields) from failure


def _check_own(wanted: Wanted, own: dict[int, PlacedRule]) -> None:
    """Check that the rules for this node are the ends of the routes it asked for; raises DecodeError."""
    if own.keys() != {wanted.forward_id, wanted.app_id}:
        raise DecodeError("initiator_rules are not those of this node's two route ids")
    leave, arrive = own[wanted.forward_id], own[wanted.app_id]
    first, last = wanted.routes.forward[0].transport, wanted.routes.reverse[-1].transport
    if not isinstance(leave.rule, ForwardRule) or (leave.rule.next_transport, leave.from_transport) != (first, None):
        raise DecodeError("initiator_rules: packets do not leave by the route")
    end = AppRule(arrive.rule.expiry, wanted.forward_id, wanted.responder, wanted.initiator.port)
    if (arrive.rule, arrive.from_transport) != (end, last):
        raise DecodeError("initiator_rules: packets do not arrive by the route")


def _made(
    wanted: Wanted,
    answer: pb.CreateLoopResponse | pb.RerouteLoopResponse,
    noise_message: bytes,
    responder_epoch: int,
    peer: PublicKey,
) -> Made:
    """Check what a setup node answered: it is trusted to install routes, not to put rules of its choice here."""
    try:
        own = placed_rules_from(answer.initiator_rules, "initiator_rules")
        rules = node_rules_from(answer.rules)
        _check_own(wanted, {placed.route_id: placed for placed in own})
        fields.noise_message(noise_message, "noise_message", reroute=bool(wanted.loop_id))
        expiry = fields.within(answer.expiry, 1, fields.MAX_TIME, "expiry")
    except DecodeError as error:
        raise Failure(
            ErrorCode.INTERNAL,
            f"the setup node's answer cannot be used: {error}",
            FailureFields(setup_id=wanted.setup_id),
        ) from error
    return Made(own, rules, expiry, noise_message, responder_epoch, peer)
