"""Which attempt at a set-up the responder took last: one that comes late replaces nothing that a later one has made.

The initiator asks one setup node after the other with the same set-up id and counts them; it listens to the last one
only. One that it gave up, because it was frozen, goes on when it wakes.
"""

from __future__ import annotations

from collections import OrderedDict

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

from skywire_node.loops.loop_setup import Offer

MAX_REMEMBERED = 4_096  # set-ups for which more than one setup node was asked


class Attempts:
    """The latest attempt taken at each set-up, of those that took more than one."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[PublicKey, bytes], int] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many set-ups are remembered."""
        return len(self._latest)

    def refuse_late(self, offer: Offer) -> None:
        """Raise Failure (ALREADY_EXISTS) if a later attempt at the same set-up was taken."""
        if offer.attempt < self._latest.get(_key(offer), 0):
            cause = "another setup node was asked since, and has made this"
            raise Failure(ErrorCode.ALREADY_EXISTS, cause, FailureFields(setup_id=offer.setup_id))

    def taken(self, offer: Offer) -> None:
        """Note that an offer was taken; the oldest are forgotten when there are more than MAX_REMEMBERED."""
        if offer.attempt > 0:
            self._latest[_key(offer)] = offer.attempt
            if len(self._latest) > MAX_REMEMBERED:
                self._latest.popitem(last=False)


def _key(offer: Offer) -> tuple[PublicKey, bytes]:
    return offer.initiator.public_key, offer.setup_id
