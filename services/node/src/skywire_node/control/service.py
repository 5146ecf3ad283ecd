"""NodeControl: what trusted setup nodes may do here. The table decides; this file turns messages into its calls.

Every effect belongs to the setup node that made it (the caller's key), so that two of them that serve the same set-up
one after the other do not undo each other's work. Rules named by their ids are the exception: an edge of their loop has
them renewed and removed through any trusted setup node, which says by its tag which edge called (`edge_tags`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import structlog
from skywire.node.v1 import node_control_pb2 as pb
from skywire.node.v1 import node_control_pb2_grpc as pb_grpc
from skywire_common.convert import fields
from skywire_common.convert.routes import addr_from
from skywire_common.convert.rules import node_rules_from, placed_rules_from, route_ids_from
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.server import Access, caller
from skywire_common.rules import APP_TYPE, FORWARD_TYPE

from skywire_node.loops.loop_setup import Answer, Offer
from skywire_node.routing.table import MAX_IDS_PER_SETUP, Removed, RoutingTable

SERVICE = "skywire.node.v1.NodeControl"
MAX_REASON = 512
MAX_REMEMBERED = 4_096
# As long as a setup node may try again.
REMEMBERED_SECONDS = 30.0
ACCESS = {
    f"/{SERVICE}/ReserveRouteIds": Access.TRUSTED,
    f"/{SERVICE}/AddRules": Access.TRUSTED,
    f"/{SERVICE}/RenewRules": Access.TRUSTED,
    f"/{SERVICE}/RemoveRules": Access.TRUSTED,
    f"/{SERVICE}/ConfirmLoop": Access.TRUSTED,
    f"/{SERVICE}/LoopClosed": Access.TRUSTED,
}


class LoopDoor(Protocol):
    """What the node's loops do for setup nodes."""

    async def confirm(self, offer: Offer) -> Answer:
        """Take the loop or its new routes, or raise Failure (PORT_CLOSED, BACKLOG_FULL, HANDSHAKE_FAILED, NOT_FOUND).

        The same offer does not come twice. Another offer with the same set-up id, from another setup node and with
        another Noise message, replaces a loop that no packet has reached yet.
        """

    def closed(self, loop_id: bytes, reason: str, app_id: int, closer: PublicKey | None) -> None:
        """End a loop without delivering; with `app_id` not 0 only if its packets arrive on that id.

        `closer` is the edge that asked the setup node, verified there: heed it only if it is the loop's remote. None:
        the setup node undoes its own set-up. A loop that is gone is no error.
        """

    def rules_removed(self, removed: Removed) -> None:
        """Learn that these rules are gone from the table; a loop whose routes they were needs others."""


class _Confirmed(NamedTuple):
    offer: Offer
    answer: asyncio.Task[Answer]
    until: float


class NodeControlService(pb_grpc.NodeControlServicer):
    """The servicer; `public_key` is this node's own."""

    def __init__(
        self,
        public_key: PublicKey,
        table: RoutingTable,
        door: LoopDoor,
        *,
        draw: Callable[[], int] = lambda: secrets.randbits(32),
        monotonic: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._public_key = public_key
        self._table = table
        self._door = door
        self._draw = draw
        self._monotonic = monotonic
        self._epoch = epoch
        self._confirmed: OrderedDict[tuple[PublicKey, bytes], _Confirmed] = OrderedDict()
        self._log = structlog.get_logger(part="control")

    async def ReserveRouteIds(  # noqa: N802
        self, request: pb.ReserveRouteIdsRequest, context: Any
    ) -> pb.ReserveRouteIdsResponse:
        """Set route ids aside for one set-up."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        count = fields.within(request.count, 1, MAX_IDS_PER_SETUP, "count")
        try:
            ids = self._table.reserve(setup_id, count, self._monotonic(), self._draw, owner=caller(context))
        except Failure as failure:
            self._log.info("route ids refused", setup_id=setup_id.hex(), reason=str(failure))
            raise
        self._log.debug("route ids reserved", setup_id=setup_id.hex(), ids=count)
        return pb.ReserveRouteIdsResponse(route_ids=ids)

    async def AddRules(self, request: pb.AddRulesRequest, context: Any) -> pb.AddRulesResponse:  # noqa: N802
        """Install rules under reserved ids: all or none."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        rules = placed_rules_from(request.rules)
        if len(request.edges) != 2:
            raise DecodeError(f"edges: a loop has 2, not {len(request.edges)}")
        edges = b"".join(fields.identifier(tag, "edges") for tag in request.edges)
        try:
            self._table.install(setup_id, rules, self._monotonic(), self._epoch(), owner=caller(context), edges=edges)
        except Failure as failure:
            self._log.info("rules refused", setup_id=setup_id.hex(), reason=str(failure))
            raise
        self._log.info("rules installed", setup_id=setup_id.hex(), rules=len(rules))
        return pb.AddRulesResponse()

    async def RenewRules(self, request: pb.RenewRulesRequest, context: Any) -> pb.RenewRulesResponse:  # noqa: N802
        """Extend rules of one set-up."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        ids = route_ids_from(request.route_ids)
        edge = fields.identifier(request.edge, "edge")
        try:
            missing = self._table.renew(setup_id, ids, request.expiry, self._monotonic(), self._epoch(), edge=edge)
        except Failure as failure:
            self._log.info("renewal refused", setup_id=setup_id.hex(), reason=str(failure))
            raise
        self._log.debug("rules renewed", setup_id=setup_id.hex(), missing=len(missing))
        return pb.RenewRulesResponse(missing=missing)

    async def RemoveRules(self, request: pb.RemoveRulesRequest, context: Any) -> pb.RemoveRulesResponse:  # noqa: N802
        """Undo what the caller holds for one set-up; or remove rules by their ids, for an edge of their loop."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        ids = route_ids_from(request.route_ids)
        if not ids:
            removed = self._table.undo(setup_id, owner=caller(context))
        else:
            edge = fields.identifier(request.edge, "edge")
            try:
                removed = self._table.remove(setup_id, ids, edge=edge)
            except Failure as failure:
                self._log.info("removal refused", setup_id=setup_id.hex(), reason=str(failure))
                raise
        if removed:
            self._log.info("rules removed", setup_id=setup_id.hex(), rules=len(removed))
            self._door.rules_removed(removed)
        return pb.RemoveRulesResponse(removed=len(removed))

    async def ConfirmLoop(self, request: pb.ConfirmLoopRequest, context: Any) -> pb.ConfirmLoopResponse:  # noqa: N802
        """Offer a loop to the app on its port, or new routes to a loop that exists."""
        offer = self._offer(request, caller(context))
        answer = await self._confirm(offer)
        return pb.ConfirmLoopResponse(noise_message=answer.noise_message, responder_epoch=answer.epoch)

    async def LoopClosed(self, request: pb.LoopClosedRequest, context: Any) -> pb.LoopClosedResponse:  # noqa: N802
        """Tell that the other edge closed a loop."""
        loop_id = fields.identifier(request.loop_id, "loop_id")
        reason = fields.text(request.reason, MAX_REASON, "reason")
        closer = fields.public_key(request.closer, "closer") if request.closer else None
        if closer is None and not request.app_id:
            raise DecodeError("app_id: whoever undoes a set-up names its id")
        said = {"loop_id": loop_id.hex(), "setup_id": loop_id.hex()}  # the set-up that made it
        self._log.info("told that a loop is closed", reason=reason, **said)
        self._door.closed(loop_id, reason, request.app_id, closer)
        return pb.LoopClosedResponse()

    def _offer(self, request: pb.ConfirmLoopRequest, setup_node: PublicKey) -> Offer:
        """Return the checked offer; its two rules must be this set-up's."""
        offer = Offer(
            setup_id=fields.identifier(request.setup_id, "setup_id"),
            loop_id=fields.identifier(request.loop_id, "loop_id") if request.loop_id else b"",
            initiator=addr_from(request.initiator, "initiator"),
            responder=addr_from(request.responder, "responder"),
            initiator_epoch=request.initiator_epoch,
            noise_message=fields.noise_message(request.noise_message, "noise_message", reroute=bool(request.loop_id)),
            forward_id=fields.route_id(request.forward_id, "forward_id"),
            app_id=fields.route_id(request.app_id, "app_id"),
            rules=node_rules_from(request.rules),
            setup_node=setup_node,
            edge_salt=fields.identifier(request.edge_salt, "edge_salt"),
            attempt=request.attempt,
        )
        if offer.responder.public_key != self._public_key or offer.initiator.public_key == self._public_key:
            raise DecodeError("responder: this node is not the other edge of that loop")
        self._check_rules(offer)
        return offer

    def _check_rules(self, offer: Offer) -> None:
        for route_id, kind in ((offer.forward_id, FORWARD_TYPE), (offer.app_id, APP_TYPE)):
            rule = self._table.rules.get(route_id)
            if rule is None or (rule.setup_id, rule.owner, rule.kind) != (offer.setup_id, offer.setup_node, kind):
                raise Failure(
                    ErrorCode.CONFLICT,
                    f"route id {route_id} is not the rule of this set-up that it should be",
                    FailureFields(setup_id=offer.setup_id),
                )

    def _check_still_wanted(self, offer: Offer) -> None:
        """End a loop whose set-up was undone while the door thought about it."""
        try:
            self._check_rules(offer)
        except Failure:
            if not offer.loop_id:
                self._door.closed(offer.setup_id, "the set-up was undone", offer.app_id, None)
            raise

    async def _confirm(self, offer: Offer) -> Answer:
        """Ask the door once for each offer; a call that is tried again gets the same answer."""
        self._forget_old()
        key = (offer.setup_node, offer.setup_id)
        before = self._confirmed.get(key)
        if before is not None and before.offer != offer:
            raise Failure(
                ErrorCode.CONFLICT, "this set-up has offered something else", FailureFields(setup_id=offer.setup_id)
            )
        if before is None:
            task = asyncio.create_task(self._ask(key, offer))
            # Whoever called may be gone before the answer comes.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            before = self._confirmed[key] = _Confirmed(offer, task, self._monotonic() + REMEMBERED_SECONDS)
        return await asyncio.shield(before.answer)

    async def _ask(self, key: tuple[PublicKey, bytes], offer: Offer) -> Answer:
        said = {
            "setup_id": offer.setup_id.hex(),
            "loop_id": (offer.loop_id or offer.setup_id).hex(),
            "initiator": str(offer.initiator),
        }
        try:
            answer = await self._door.confirm(offer)
            self._check_still_wanted(offer)
        except BaseException as error:
            self._confirmed.pop(key, None)
            self._log.info("loop refused", port=offer.responder.port, reason=str(error), **said)
            raise
        self._log.info("loop confirmed", port=offer.responder.port, **said)
        return answer

    def _forget_old(self) -> None:
        now = self._monotonic()
        while self._confirmed:
            key, oldest = next(iter(self._confirmed.items()))
            if oldest.until > now and len(self._confirmed) < MAX_REMEMBERED:
                break
            del self._confirmed[key]
