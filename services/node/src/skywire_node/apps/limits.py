"""What one app can make its node hold and do (apps/session.py counts it, apps/pace.py its frames)."""

from __future__ import annotations

from dataclasses import dataclass

# Sends of one loop that wait for the app's answer; an app that asks for more gets this.
MAX_WINDOW = 64
# Incoming loops that the app has not confirmed yet.
BACKLOG = 64
MAX_LOOPS = 1_024
# Bytes. What the loops of an app may have waiting for it together is shared among them. But a loop keeps what it was
# granted while they were fewer until it is read, so in the worst case there are several times as many bytes (1 + ln of
# the growth, and RECEIVE_WINDOW for each). An app with over OVERCOMMIT times as many broke the rules.
MAX_QUEUED = 64 << 20
OVERCOMMIT = 8
# The most of these bytes that one loop gets.
MAX_SHARE = 4 << 20
# Frames that an app may make in a second; one that makes more is read more slowly.
MAX_FRAMES_PER_S = 100_000


@dataclass(frozen=True)
class Limits:
    """What one app can make the node hold: loops, incoming loops it has not confirmed, bytes that wait for it; and what
    it can make it do: frames per second.
    """

    loops: int = MAX_LOOPS
    backlog: int = BACKLOG
    queued: int = MAX_QUEUED
    frames_per_s: int = MAX_FRAMES_PER_S
