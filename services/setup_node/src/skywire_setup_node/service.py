"""The SetupNode service: who may ask, what is asked, what is answered. The work is done by the installer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire.setup_node.v1 import setup_node_pb2_grpc as pb_grpc
from skywire_common.convert import fields
from skywire_common.convert.routes import addr_from, path_pair_from
from skywire_common.convert.rules import node_rules_from, node_rules_to, placed_rules_to
from skywire_common.edge_tags import edge_tag
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.server import Access, caller
from skywire_common.rules import NodeRules

from skywire_setup_node.attempt import STEP_SECONDS, Clock
from skywire_setup_node.install import Installer
from skywire_setup_node.nodes import Nodes
from skywire_setup_node.plan import LoopRequest, check_time_to_live

SERVICE = "skywire.setup_node.v1.SetupNode"
MAX_REASON = 512
ACCESS = {
    f"/{SERVICE}/CreateLoop": Access.SIGNED,
    f"/{SERVICE}/RerouteLoop": Access.SIGNED,
    f"/{SERVICE}/RenewLoop": Access.SIGNED,
    f"/{SERVICE}/CloseLoop": Access.SIGNED,
}


log = structlog.get_logger(part="service")


class SetupNodeService(pb_grpc.SetupNodeServicer):
    """Keeps nothing between calls: a loop's edges know its rules, and its nodes know its edges by their tags, to which
    the key that signed a call is compared there (`edge_tags`). Any other setup node could answer as well.
    """

    def __init__(self, installer: Installer, nodes: Nodes, clock: Clock) -> None:
        self._installer = installer
        self._nodes = nodes
        self._clock = clock

    async def CreateLoop(self, request: pb.CreateLoopRequest, context: Any) -> pb.CreateLoopResponse:  # noqa: N802
        """Install both routes of a new loop and have the responder confirm it."""
        made = await self._installer.make(_asked(request, b"", request.noise_message, caller(context)))
        return pb.CreateLoopResponse(
            initiator_rules=placed_rules_to(made.plan.initiator_rules),
            noise_message=made.confirmed.noise_message,
            responder_epoch=made.confirmed.responder_epoch,
            rules=node_rules_to(made.plan.rules),
            expiry=made.expiry,
        )

    async def RerouteLoop(self, request: pb.RerouteLoopRequest, context: Any) -> pb.RerouteLoopResponse:  # noqa: N802
        """Install a new pair of routes for a loop that stays as it is."""
        loop_id = fields.identifier(request.loop_id, "loop_id")
        made = await self._installer.make(_asked(request, loop_id, b"", caller(context)))
        return pb.RerouteLoopResponse(
            initiator_rules=placed_rules_to(made.plan.initiator_rules),
            rules=node_rules_to(made.plan.rules),
            expiry=made.expiry,
        )

    async def RenewLoop(self, request: pb.RenewLoopRequest, context: Any) -> pb.RenewLoopResponse:  # noqa: N802
        """Extend the rules of a loop at every node that can be reached; a node that lost some is named."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        nodes = _named(request.rules)
        expiry = int(self._clock.epoch()) + check_time_to_live(request.time_to_live_s)
        edge = edge_tag(fields.identifier(request.edge_salt, "edge_salt"), setup_id, caller(context))
        ends = await asyncio.gather(*(_end(partial(self._renew, setup_id, node, expiry, edge)) for node in nodes))
        for failure in ends:
            if failure is not None:
                log.info("rules not renewed", setup_id=setup_id.hex(), reason=str(failure))
                raise failure
        return pb.RenewLoopResponse(expiry=expiry)

    async def CloseLoop(self, request: pb.CloseLoopRequest, context: Any) -> pb.CloseLoopResponse:  # noqa: N802
        """Remove the rules of a loop everywhere and tell the other edge; what cannot be reached ends by its lease."""
        setup_id = fields.identifier(request.setup_id, "setup_id")
        nodes = _named(request.rules)
        reason = fields.text(request.reason, MAX_REASON, "reason")
        closer = caller(context)
        edge = edge_tag(fields.identifier(request.edge_salt, "edge_salt"), setup_id, closer)
        remove = self._nodes.remove
        calls = [partial(remove, node.public_key, setup_id, node.route_ids, edge, STEP_SECONDS) for node in nodes]
        keys = [node.public_key for node in nodes]
        if request.tell:
            tell = fields.public_key(request.tell, "tell")
            loop_id = fields.identifier(request.loop_id, "loop_id")
            calls.append(partial(self._nodes.loop_closed, tell, loop_id, reason, 0, STEP_SECONDS, closer))
            keys.append(tell)
        ends = await asyncio.gather(*map(_end, calls))
        unreached = {key for key, failure in zip(keys, ends, strict=True) if failure is not None}
        said = {"setup_id": setup_id.hex(), "loop_id": request.loop_id.hex(), "reason": reason}
        log.info("rules removed", by=closer.short, unreached=[key.short for key in unreached], **said)
        return pb.CloseLoopResponse(unreached=sorted(unreached))

    async def _renew(self, setup_id: bytes, node: NodeRules, expiry: int, edge: bytes) -> None:
        where = FailureFields(hop_key=node.public_key, setup_id=setup_id)
        try:
            missing = await self._nodes.renew(node.public_key, setup_id, node.route_ids, expiry, edge, STEP_SECONDS)
        except Failure as failure:
            raise failure.within(hop_key=node.public_key, setup_id=setup_id) from failure
        if missing:
            raise Failure(ErrorCode.ROUTE_LOST, f"node {node.public_key} has lost {len(missing)} rules", where)


def _asked(
    request: pb.CreateLoopRequest | pb.RerouteLoopRequest, loop_id: bytes, noise_message: bytes, by: PublicKey
) -> LoopRequest:
    """Return the checked request of the caller; raises DecodeError, or Failure if it is somebody else's loop."""
    initiator = addr_from(request.initiator, "initiator")
    if initiator.public_key != by:
        raise Failure(ErrorCode.PERMISSION_DENIED, "only its initiator sets a loop up or reroutes it")
    return LoopRequest(
        setup_id=request.setup_id,
        loop_id=loop_id,
        initiator=initiator,
        responder=addr_from(request.responder, "responder"),
        initiator_epoch=request.initiator_epoch,
        routes=path_pair_from(request.routes),
        forward_id=request.initiator_ids.forward,
        app_id=request.initiator_ids.app,
        noise_message=noise_message,
        edge_salt=request.edge_salt,
        time_to_live=check_time_to_live(request.time_to_live_s),
        attempt=request.attempt,
    ).check()


def _named(messages: Any) -> tuple[NodeRules, ...]:
    """Return rules by node; a node without ids would mean all of a set-up, which nobody outside may ask for."""
    nodes = node_rules_from(messages)
    for node in nodes:
        if not node.route_ids:
            raise DecodeError(f"rules: no route ids for node {node.public_key}")
    return nodes


async def _end(call: Callable[[], Awaitable[None]]) -> Failure | None:
    """Return how a call failed; None if it did not."""
    try:
        await call()
    except Failure as failure:
        return failure
    return None
