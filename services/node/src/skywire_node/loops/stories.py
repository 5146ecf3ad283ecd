"""The lives of loops, for `skywire loop explain`: of those that live, and of the last KEPT that are over or never were.

A story is a short list of events, bounded: what happened first and what happened last is kept. Nothing of what a loop
carries is in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.routes import PathPair, nodes

KEPT = 256
MAX_EVENTS = 64
FIRST_KEPT = 16  # of a story that is longer than MAX_EVENTS
MAX_TEXT = 400
MIN_PREFIX = 4
StoryState = Literal["DIALING", "OPEN", "PAUSED", "CLOSING", "CLOSED", "FAILED"]


class Event(NamedTuple):
    """One thing that happened, at epoch seconds; `setup_id` names the set-up it is about, if it is about one."""

    at: float
    what: str
    text: str
    setup_id: bytes


class Story:
    """One loop's life. `loop_id` is empty until a set-up has succeeded; `state` is its last one once it is over."""

    __slots__ = ("_clock", "app", "events", "initiator", "left_out", "local", "loop_id", "remote", "state")

    def __init__(
        self, loop_id: bytes, app: str, local: Addr, remote: Addr, clock: Callable[[], float], *, initiator: bool
    ) -> None:
        self.loop_id = loop_id
        self.app = app
        self.local = local
        self.remote = remote
        self.initiator = initiator
        self.state: StoryState = "DIALING"
        self.events: list[Event] = []
        self.left_out = 0
        self._clock = clock

    def note(self, what: str, text: str = "", setup_id: bytes = b"") -> None:
        """Add an event; when there are too many one in the middle goes."""
        if len(self.events) >= MAX_EVENTS:
            del self.events[FIRST_KEPT]
            self.left_out += 1
        self.events.append(Event(self._clock(), what, text[:MAX_TEXT], setup_id))

    def named(self, prefix: str) -> bool:
        """Say whether the loop, or one of its set-ups, has an id that starts so."""
        return self.loop_id.hex().startswith(prefix) or any(
            event.setup_id.hex().startswith(prefix) for event in self.events
        )


class Stories:
    """All stories of a node."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives epoch seconds."""
        self._clock = clock
        self._live: dict[Story, None] = {}
        self._over: deque[Story] = deque(maxlen=KEPT)

    def begin(self, loop_id: bytes, app: str, local: Addr, remote: Addr, *, initiator: bool) -> Story:
        """Begin a story; whoever does calls `end`."""
        story = Story(loop_id, app, local, remote, self._clock, initiator=initiator)
        self._live[story] = None
        return story

    def end(self, story: Story, state: StoryState) -> None:
        """Keep a story that has come to its end among the last ones."""
        if self._live.pop(story, story) is None:
            story.state = state
            self._over.append(story)

    def over(self) -> tuple[Story, ...]:
        """Return the stories that have come to their end, oldest first."""
        return tuple(self._over)

    def find(self, prefix: str) -> Story:
        """Return the story of a loop or set-up by the first digits of its id; raises Failure."""
        if len(prefix) < MIN_PREFIX:
            raise Failure(ErrorCode.INVALID_ARGUMENT, f"name at least {MIN_PREFIX} digits of the id")
        wanted = prefix.lower()
        found = [story for story in (*self._over, *self._live) if story.named(wanted)]
        if len(found) != 1:
            said = "no loop" if not found else f"{len(found)} loops"
            raise Failure(ErrorCode.NOT_FOUND, f"this node remembers {said} with an id that starts with {prefix}")
        return found[0]


def shown_way(paths: PathPair | None) -> str:
    """Return a pair of paths as the first digits of its nodes' keys, the way back too if it is another one."""
    if paths is None:
        return ""
    there, back = ([node.short for node in nodes(path)] for path in paths)
    shown = " → ".join(there)
    return shown if back[::-1] == there else f"{shown}, back {' → '.join(back)}"
