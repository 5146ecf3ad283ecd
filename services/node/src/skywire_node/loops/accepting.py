"""Loops that other nodes offer, and other routes for those that are there: taken or refused, as their responder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey

from skywire_node.edge import Listener
from skywire_node.loops.attempts import Attempts
from skywire_node.loops.dialling import Opening
from skywire_node.loops.greeting import Greetings
from skywire_node.loops.loop_setup import Offer, Routes
from skywire_node.loops.own_rules import OwnRules
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import Stories

log = structlog.get_logger(part="loops")


class Taking(Opening, Protocol):
    """The node's loops, as far as offers change them."""

    by_id: dict[bytes, RoutedLoop]

    def ended_in_order(self, loop_id: bytes) -> bool:
        """Say whether this end of a loop was closed lately, every byte where it belongs."""

    def forget(self, loop: RoutedLoop) -> None:
        """Unmake a loop that nobody took."""

    def hold(self, loop: RoutedLoop, routes: Routes) -> None:
        """Keep a second pair of routes for a loop."""

    def reset_older(self, remote: PublicKey, epoch: int) -> None:
        """End the loops that an earlier life of the same node left behind."""


class Accepting:
    """Answers offers; `refused` counts those that no honest initiator makes."""

    def __init__(
        self,
        own: PublicKey,
        loops: Taking,
        rules: OwnRules,
        greetings: Greetings,
        stories: Stories,
        listener: Callable[[int], Listener | None],
        refused: Counter[str],
    ) -> None:
        self._own = own
        self._loops = loops
        self._rules = rules
        self._greetings = greetings
        self._stories = stories
        self._listener = listener
        self._refused = refused
        self._attempts = Attempts()

    def confirm(self, offer: Offer) -> bytes:
        """Take the loop or its new routes and return Noise message 2, empty for routes.

        Raises Failure (PORT_CLOSED, BACKLOG_FULL, HANDSHAKE_FAILED, REPLAYED, ALREADY_EXISTS, LOOP_RESET, LOOP_ENDED,
        CONFLICT, LIMIT_REACHED).
        """
        if offer.responder.public_key != self._own:
            raise Failure(ErrorCode.INVALID_ARGUMENT, "the responder of this loop is another node")
        self._rules.check(offer)
        self._attempts.refuse_late(offer)
        answer = self._confirm_reroute(offer) if offer.loop_id else self._confirm_new(offer)
        self._attempts.taken(offer)
        return answer

    def _confirm_new(self, offer: Offer) -> bytes:
        try:
            self._greetings.refuse_seen(offer)
        except Failure:
            self._refused["replayed"] += 1
            raise
        before = self._loops.by_id.get(offer.setup_id)
        if before is not None:
            # Another setup node has taken the set-up over; what the first one made is no use to anyone.
            if before.endpoint.heard or before.remote != offer.initiator:
                raise Failure(ErrorCode.ALREADY_EXISTS, "this loop is in use", FailureFields(setup_id=before.loop_id))
            # Its initiator hears nothing of that: loop id and the initiator's route ids live on in the new one.
            self._rules.drop(before.routes)
            before.ended_by(Failure(ErrorCode.LOOP_RESET, "the loop was set up anew"), tell=False)
        return self._accept(offer)

    def _accept(self, offer: Offer) -> bytes:
        self._loops.check_room()
        port = offer.responder.port
        listener = self._listener(port)
        if listener is None:
            raise Failure(ErrorCode.PORT_CLOSED, f"no app listens on port {port}")
        try:
            handshake, answer = self._greetings.answer(offer)
        except Failure:
            self._refused["handshake"] += 1
            raise
        self._loops.reset_older(offer.initiator.public_key, offer.initiator_epoch)
        story = self._stories.begin(offer.setup_id, "", offer.responder, offer.initiator, initiator=False)
        loop = self._loops.open(story, offer.setup_id, offer.initiator_epoch, handshake, _routes(offer))
        try:
            listener.offer(loop)
        except Failure as failure:
            self._loops.forget(loop)
            story.note("refused", str(failure))
            self._stories.end(story, "FAILED")
            raise failure.within(phase=Phase.CONFIRM, hop_key=self._own) from failure
        self._loops.changed(loop)
        log.info("loop accepted", loop_id=loop.loop_id.hex(), setup_id=loop.loop_id.hex(), remote=str(loop.remote))
        return answer

    def _confirm_reroute(self, offer: Offer) -> bytes:
        loop = self._loops.by_id.get(offer.loop_id)
        if loop is None or loop.remote != offer.initiator or loop.local != offer.responder:
            if loop is None and self._loops.ended_in_order(offer.loop_id):
                raise Failure(ErrorCode.LOOP_ENDED, "this loop has ended in order")
            raise Failure(ErrorCode.LOOP_RESET, "this node has no such loop (any more)")
        if loop.remote_epoch != offer.initiator_epoch:
            raise Failure(ErrorCode.LOOP_RESET, "the loop belongs to an earlier life of its initiator")
        self._loops.hold(loop, _routes(offer))
        return b""


def _routes(offer: Offer) -> Routes:
    return Routes(offer.setup_id, offer.forward_id, offer.app_id, offer.rules, edge_salt=offer.edge_salt)
