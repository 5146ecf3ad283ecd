"""NodeControl as the installer uses it: values in, values out, one deadline for finding the node and calling it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message
from skywire.node.v1 import node_control_pb2 as pb
from skywire_common.convert.routes import addr_to
from skywire_common.convert.rules import node_rules_to, placed_rules_to
from skywire_common.edge_tags import TAG_SIZE
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rules import PlacedRule

from skywire_setup_node.attempt import Clock, Confirmed
from skywire_setup_node.directory import Directory
from skywire_setup_node.plan import Confirm, LoopRequest

_SERVICE = "/skywire.node.v1.NodeControl/"

R = TypeVar("R", bound=Message)


class Nodes:
    """Calls to the NodeControl of any node; implements `attempt.NodeClient`."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def reserve(self, node: PublicKey, setup_id: bytes, wanted: int, timeout: float) -> tuple[int, ...]:
        """Reserve route ids."""
        request = pb.ReserveRouteIdsRequest(setup_id=setup_id, count=wanted)
        answer = await self._call(node, "ReserveRouteIds", request, pb.ReserveRouteIdsResponse, timeout)
        return tuple(answer.route_ids)

    async def add_rules(
        self, node: PublicKey, setup_id: bytes, rules: Sequence[PlacedRule], edges: bytes, timeout: float
    ) -> None:
        """Install rules under reserved ids, all or none, for the edges with these tags."""
        tags = (edges[:TAG_SIZE], edges[TAG_SIZE:])
        request = pb.AddRulesRequest(setup_id=setup_id, rules=placed_rules_to(rules), edges=tags)
        await self._call(node, "AddRules", request, pb.AddRulesResponse, timeout)

    async def confirm(self, step: Confirm, request: LoopRequest, timeout: float) -> Confirmed:
        """Offer the loop, or its new routes, to the responder."""
        message = pb.ConfirmLoopRequest(
            setup_id=request.setup_id,
            loop_id=request.loop_id,
            initiator=addr_to(request.initiator),
            responder=addr_to(request.responder),
            initiator_epoch=request.initiator_epoch,
            noise_message=request.noise_message,
            forward_id=step.forward_id,
            app_id=step.app_id,
            rules=node_rules_to(step.others),
            edge_salt=request.edge_salt,
            attempt=request.attempt,
        )
        answer = await self._call(step.node, "ConfirmLoop", message, pb.ConfirmLoopResponse, timeout)
        return Confirmed(answer.noise_message, answer.responder_epoch)

    async def renew(
        self, node: PublicKey, setup_id: bytes, ids: Sequence[int], expiry: int, edge: bytes, timeout: float
    ) -> tuple[int, ...]:
        """Move the expiry of rules on for the edge with this tag; return the ids that the node does not have."""
        request = pb.RenewRulesRequest(setup_id=setup_id, route_ids=ids, expiry=expiry, edge=edge)
        answer = await self._call(node, "RenewRules", request, pb.RenewRulesResponse, timeout)
        return tuple(answer.missing)

    async def undo(self, node: PublicKey, setup_id: bytes, timeout: float) -> None:
        """Remove everything that this setup node holds there for the set-up."""
        request = pb.RemoveRulesRequest(setup_id=setup_id)
        await self._call(node, "RemoveRules", request, pb.RemoveRulesResponse, timeout)

    async def remove(self, node: PublicKey, setup_id: bytes, ids: Sequence[int], edge: bytes, timeout: float) -> None:
        """Remove rules for the edge with this tag."""
        request = pb.RemoveRulesRequest(setup_id=setup_id, route_ids=ids, edge=edge)
        await self._call(node, "RemoveRules", request, pb.RemoveRulesResponse, timeout)

    async def loop_closed(
        self, node: PublicKey, loop_id: bytes, reason: str, app_id: int, timeout: float, closer: bytes = b""
    ) -> None:
        """Say that a loop is over; with `app_id` only if its packets arrive on that id."""
        request = pb.LoopClosedRequest(loop_id=loop_id, reason=reason, app_id=app_id, closer=closer)
        await self._call(node, "LoopClosed", request, pb.LoopClosedResponse, timeout)

    async def _call(self, node: PublicKey, method: str, request: Message, answer: type[R], timeout: float) -> R:
        """Call once, and once more if the node answers at another address than the one known so far."""
        ends = self._clock.monotonic() + timeout
        while True:
            known = self._directory.knows(node)
            async with self._directory.channel(node) as channel:
                try:
                    left = ends - self._clock.monotonic()
                    return await channel.call(_SERVICE + method, request, answer, timeout=left)
                except Failure as failure:
                    if failure.code not in (ErrorCode.UNAVAILABLE, ErrorCode.CLOSED):
                        raise
                    self._directory.forget(node, channel)
                    if not known:
                        raise
