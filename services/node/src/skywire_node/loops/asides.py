"""Pings and pongs over the pair of routes that a loop does not use: sent, heard, answered (`standby`)."""

from __future__ import annotations

import structlog
from skywire_common.loop.aside import PAYLOAD_SIZE
from skywire_common.loop.frames import Ping, Pong

from skywire_node.loops.loop_setup import Routes
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import shown_way

log = structlog.get_logger(part="loop")


def send(loop: RoutedLoop, routes: Routes, frame: Ping | Pong) -> bool:
    """Send a ping or pong by a pair of routes; False if its first link or rule is gone."""
    way = loop.host.way(routes.forward_id)
    if way is None:
        return False
    rule, link = way
    place = link.slot(rule.next_id, PAYLOAD_SIZE)
    if place is None:
        return False
    loop.aside.seal(frame, place)
    now = loop.host.clock()
    if not rule.used:
        loop.host.commit(routes.forward_id, rule, now)
    rule.used = now
    rule.packets += 1
    rule.bytes += PAYLOAD_SIZE
    return True


def hear(loop: RoutedLoop, routes: Routes, payload: memoryview, now: float) -> None:
    """Take a ping or pong that came by a pair: it is whole, as far as this end can know. Raises DecodeError."""
    frame = loop.aside.open(payload)
    if not routes.proved_at:
        loop.story.note("standby ready", shown_way(routes.paths), routes.setup_id)
        log.info("standby ready", loop_id=loop.loop_id.hex(), setup_id=routes.setup_id.hex())
    routes.proved_at = now
    if isinstance(frame, Ping):
        send(loop, routes, Pong(frame.token))
