"""What an end of a loop tells its shell about a packet or a timer."""

from __future__ import annotations

from typing import NamedTuple

from skywire_common.drops import DropReason


class Delivered(NamedTuple):
    """Bytes for the app, in order; answer with `consumed`."""

    data: memoryview | bytes


class Ended(NamedTuple):
    """The other side sends no more; `full`: it does not read any more either, `reason` says why if it was asked to."""

    full: bool
    reason: str = ""


class Closed(NamedTuple):
    """The loop is over: `remote` if the other side broke it off. An orderly end has the reason the other side gave."""

    reason: str
    remote: bool


class Dropped(NamedTuple):
    """The packet was not taken."""

    reason: DropReason


Event = Delivered | Ended | Closed | Dropped
