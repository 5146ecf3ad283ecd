"""How the 255 request ids of one side of an app's pipe are shared (docs/wire-format.md, App pipe).

An id is taken until its answer comes, and the answer to a Send may not come for as long as somebody does not read. Who
takes ids never knows whether they come back: what came first may not leave later ones without.
"""

from __future__ import annotations

from skywire_common.appframes import REQUEST_IDS

KEPT_FOR_REQUESTS = 8  # for what opens and ends loops; Sends never take them
AHEAD = 128  # for a loop's second Send and those after it; the others are for first ones


def most_sends(loops: int, free: int) -> int:
    """Return how many Sends one of so many loops may have unanswered while so many ids are free; 0: not even one."""
    if free > REQUEST_IDS - AHEAD:
        return max(1, AHEAD // max(1, loops))
    return 1 if free > KEPT_FOR_REQUESTS else 0
