"""Views of the node's owner as messages of NodeAdmin."""

from __future__ import annotations

from skywire.node.v1 import node_admin_pb2 as pb
from skywire_common.convert.routes import addr_to, path_pair_to
from skywire_common.rules import APP_TYPE

from skywire_node.owner.views import AppView, EventView, HopView, LoopView, StoryView, TrafficView, TransportView
from skywire_node.routing.leases import Installed


def app_to(view: AppView) -> pb.App:
    """Return the message of an app."""
    return pb.App(
        name=view.name,
        version=view.version,
        port=view.port,
        auto_start=view.auto_start,
        state=view.state,
        reason=view.reason,
        pid=view.pid,
        loops=view.loops,
        restarts=view.restarts,
        since_s=int(view.since),
    )


def transport_to(view: TransportView) -> pb.Transport:
    """Return the message of a transport."""
    return pb.Transport(
        transport_id=view.transport_id.bytes,
        remote=view.remote,
        type=view.kind,
        public=view.public,
        state=view.state,
        reason=view.reason,
        since_s=int(view.since),
        registered=view.registered,
        dialled=view.dialled,
        address=view.address,
        bytes_sent=view.bytes_sent,
        bytes_received=view.bytes_received,
        packets_sent=view.packets_sent,
        packets_received=view.packets_received,
        queued=view.queued,
    )


def rule_to(route_id: int, rule: Installed, now: float) -> pb.Rule:
    """Return the message of a rule."""
    return pb.Rule(
        route_id=route_id,
        type="app" if rule.kind == APP_TYPE else "forward",
        encoded=rule.rule.encode(),
        from_transport=rule.from_transport.bytes if rule.from_transport is not None else b"",
        setup_id=rule.setup_id,
        lapses_in_s=int(rule.lapses - now),
        idle_s=int(now - rule.used) if rule.used else -1,
        packets=rule.packets,
        bytes=rule.bytes,
    )


def loop_to(view: LoopView) -> pb.Loop:
    """Return the message of a loop."""
    return pb.Loop(
        loop_id=view.loop_id,
        local=addr_to(view.local),
        remote=addr_to(view.remote),
        app=view.app,
        state=view.state,
        reason=view.reason,
        initiator=view.initiator,
        bytes_sent=view.bytes_sent,
        bytes_acknowledged=view.bytes_acknowledged,
        bytes_received=view.bytes_received,
        bytes_resent=view.bytes_resent,
        round_trip_us=int(view.round_trip * 1e6),
        routes=path_pair_to(view.routes) if view.routes is not None else None,
        reroutes=view.reroutes,
        standby=view.standby,
        standby_routes=path_pair_to(view.standby_routes) if view.standby_routes is not None else None,
    )


def over_to(view: StoryView) -> pb.Loop:
    """Return the message of a loop that is over; one that never came to be goes by the id of its first set-up."""
    last = view.events[-1] if view.events else None
    return pb.Loop(
        loop_id=view.loop_id or next((event.setup_id for event in view.events if event.setup_id), b""),
        local=addr_to(view.local),
        remote=addr_to(view.remote),
        app=view.app,
        state=view.state,
        reason=last.text if last is not None else "",
        initiator=view.initiator,
    )


def hop_to(view: HopView) -> pb.TracedHop:
    """Return the message of a hop of a traced route."""
    return pb.TracedHop(
        public_key=view.node,
        route_id=view.route_id,
        status=view.status,
        transport_in=view.transport_in.bytes if view.transport_in is not None else b"",
        transport_out=view.transport_out.bytes if view.transport_out is not None else b"",
        round_trip_us=int(view.round_trip * 1e6),
        held_us=int(view.held * 1e6),
        queued=view.queued,
        drops=view.drops,
        packets=view.packets,
        idle_ms=int(view.idle * 1e3),
    )


def event_to(view: EventView) -> pb.LoopEvent:
    """Return the message of an event of a loop's life."""
    return pb.LoopEvent(at_ms=int(view.at * 1e3), what=view.what, text=view.text, setup_id=view.setup_id)


def traffic_to(view: TrafficView) -> pb.Traffic:
    """Return the message of what a transport carried on one day."""
    return pb.Traffic(
        transport_id=view.transport_id.bytes,
        remote=view.remote,
        type=view.kind,
        public=view.public,
        day=view.day,
        bytes_sent=view.bytes_sent,
        bytes_received=view.bytes_received,
        packets_sent=view.packets_sent,
        packets_received=view.packets_received,
    )
