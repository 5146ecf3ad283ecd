"""One end of a loop: a reliable, ordered, sealed byte stream in both directions over routes that lose packets.

Theory of operation. A packet's payload is `counter 8 ‖ sealed frames`; the counter is the nonce, rises by one per
packet sent, and a packet whose counter is not above the last accepted one is dropped. The shell feeds payloads to
`receive`, acts on the events, takes payloads from `next_plain` and `seal` while there are any, and calls `on_timer` at
`deadline()`. Routes may change under it at any time: `rewind` then sends again what was not acknowledged.

States of the whole, by what has ended (missing pairs are no transition):

    OPEN ──close(HALF), remote HALF: directions end one by one──▶ both complete ──▶ DONE ──▶ CLOSED(no reason)
      │  close(FULL): what was written is delivered, what comes is discarded ──────▲
      │  remote FULL: the app hears the end, its unsent bytes are forgotten ───────┘
      └──abort, remote ABORT, a broken rule of the protocol──▶ CLOSED(reason)

An end is DONE when both directions are complete; it says so (a done frame) and is CLOSED when it has heard the same, or
has lingered long enough to answer a close that was sent again.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import Enum

from skywire_common.drops import DropReason
from skywire_common.errors import DecodeError, LocalError, LoopError
from skywire_common.loop import frames
from skywire_common.loop.congestion import Floor
from skywire_common.loop.events import Closed, Delivered, Dropped, Ended, Event
from skywire_common.loop.receiving import RECEIVE_WINDOW, Receiving
from skywire_common.loop.sending import Sending
from skywire_common.noise import TAG_SIZE, Cipher

_COUNTER = struct.Struct(">Q")
COUNTER_SIZE = _COUNTER.size
OVERHEAD = COUNTER_SIZE + TAG_SIZE
MIN_PAYLOAD = OVERHEAD + 1
MAX_PLAIN = 65_480  # with the overhead and a packet header it fits one link record
COUNTER_LIMIT = 1 << 60
KEEPALIVE = 30.0  # seconds without a packet sent after which a ping goes; the pong uses the way back
LINGER = 10.0  # seconds in which a close that was sent again is still answered; longer than two probes
STALL_FACTOR = 4  # round trips without an acknowledgement while data is under way
MIN_STALL = 1.0
MAX_STALL = 5.0
UNANSWERED = 3.0  # seconds after which pings without a pong mean the same; longer than all of them take
SLOWEST = 30.0  # the longest round trip that is waited for
STARVED_PROBE = 1.0  # seconds between questions for a window that may have been granted and lost
PINGS = 4  # how often a ping over a fresh route is repeated while no pong comes
PING_AGAIN = 0.5  # seconds
MAX_PONGS = 8
MAX_PINGS = 16  # whose pongs are waited for
_ACK_ROOM = 64


class State(Enum):
    """What the whole loop does; see the theory of operation."""

    OPEN = "open"
    DONE = "done"
    CLOSED = "closed"


# Looking a member up in its enum is slow (Python 3.11), and these are asked for with every packet.
_DONE, _CLOSED = State.DONE, State.CLOSED


class Endpoint:
    """One end of a loop. `now` is monotonic seconds; nothing here blocks, reads a clock or does I/O."""

    __slots__ = (
        "_asked_at",
        "_counter",
        "_done_heard",
        "_done_owed",
        "_ended_told",
        "_linger_until",
        "_open_cipher",
        "_ping_at",
        "_ping_owed",
        "_pings",
        "_pings_left",
        "_pong_at",
        "_pongs",
        "_seal_cipher",
        "_sent_at",
        "_stall_factor",
        "_stalled_at",
        "_starved_probe_at",
        "_stopped",
        "_unanswered",
        "last_counter",
        "receiving",
        "sending",
        "state",
    )

    def __init__(self, seal: Cipher, open_: Cipher, now: float, floor: Floor | None = None) -> None:
        self._seal_cipher = seal
        self._open_cipher = open_
        self._counter = 0  # of the next packet
        self.last_counter = -1  # of the last packet that verified
        self.sending = Sending(RECEIVE_WINDOW, floor)
        self.receiving = Receiving()
        self.state = State.OPEN
        self._pongs: deque[int] = deque(maxlen=MAX_PONGS)
        self._ping_owed = False
        self._pings: dict[int, float] = {}  # by the present route and without a pong: token, when it was sent
        self._stall_factor = 1.0
        self._stalled_at = 0  # the first byte not acknowledged when a stall was seen
        self._ping_at = 0.0
        self._pong_at = 0.0
        self._asked_at = 0.0  # when a row of pings began; 0.0: nobody waits for their end
        self._unanswered = False
        self._pings_left = 0
        self._stopped = False
        self._done_owed = False
        self._done_heard = False
        self._ended_told = False
        self._linger_until = 0.0
        self._sent_at = now
        self._starved_probe_at = 0.0

    # -- the app's side

    def write(self, data: bytes) -> bool:
        """Take bytes of the app; False when enough wait to be sent. Raises LocalError after a close of this end."""
        if self._stopped:
            return True  # the other end reads no more; the app may not know yet
        if self.sending.closing or self.state is not State.OPEN:
            raise LocalError("this direction of the loop was ended")
        return self.sending.write(data)

    def finish(self) -> None:
        """End this direction after what was written; the other one goes on."""
        self.sending.close(frames.CloseMode.HALF)

    def close(self, now: float, reason: str = "") -> None:
        """End both directions: what was written is delivered, then the reason; what still comes is discarded."""
        self.receiving.discard(now)
        self.sending.close(frames.CloseMode.FULL, reason)

    def consumed(self, size: int, now: float) -> None:
        """The app took `size` delivered bytes."""
        self.receiving.consumed(size, now)

    def ping(self, now: float) -> None:
        """Owe a ping, again and again until a pong comes: it commits the rules of a fresh route and measures it."""
        self._ping_owed = True
        self._pings_left = PINGS
        self._asked_at = now

    def ping_again(self, now: float) -> None:
        """Owe a ping unless one went just now: something came, so the way may be open again."""
        if now - self._ping_at >= PING_AGAIN / 2:
            self._ping_owed = True

    def abort(self, reason: str) -> bytes:
        """End the loop at once and return the plain text of the one packet that says so."""
        self.state = State.CLOSED
        return frames.encode(frames.Close(self.sending.next_offset, frames.CloseMode.ABORT, reason))

    @property
    def finishing(self) -> bool:
        """Whether all bytes that anybody wants are where they belong, and only farewells are missing."""
        receiving, sending = self.receiving, self.sending
        heard = receiving.complete or receiving.discarding
        return self.state is State.DONE or (heard and sending.closing and not sending.unacknowledged)

    # -- the network's side

    def receive(self, payload: bytes | memoryview, now: float) -> list[Event]:
        """Take one packet's payload; a bad packet is an event, never an error.

        Raises LoopError when the other end, authenticated, breaks the protocol: the shell aborts with that reason.
        """
        if len(payload) < MIN_PAYLOAD:
            return [Dropped(DropReason.MALFORMED)]
        counter: int = _COUNTER.unpack_from(payload)[0]
        if counter <= self.last_counter or counter >= COUNTER_LIMIT:
            return [Dropped(DropReason.REPLAYED)]
        try:
            plain = self._open_cipher.open(counter, payload[COUNTER_SIZE:])
        except DecodeError:
            return [Dropped(DropReason.BAD_TAG)]
        self.last_counter = counter
        self.receiving.on_counter(counter, now)
        try:
            return self._take(frames.decode(plain), now)
        except DecodeError as error:
            raise LoopError(f"the other end sent what no valid end sends: {error}") from error

    def _take(self, received: list[frames.Frame], now: float) -> list[Event]:
        events: list[Event] = []
        for frame in received:
            if isinstance(frame, frames.Data):  # what nearly all frames are; matching a class costs more than its work
                events.extend(map(Delivered, self.receiving.on_data(frame, now)))
                continue
            if isinstance(frame, frames.Ack):
                self.sending.on_ack(frame, now)
                continue
            match frame:
                case frames.Close(mode=frames.CloseMode.ABORT, reason=reason):
                    self.state = State.CLOSED
                    return [*events, Closed(reason, remote=True)]
                case frames.Close():
                    self.receiving.on_close(frame, now)
                    self._done_owed = self.state is State.DONE  # it was sent again: ours may be lost
                case frames.Ping(token):
                    self._pongs.append(token)
                    self.receiving.ack_due = now
                case frames.Pong(token):
                    sent_at = self._pings.pop(token, None)
                    if sent_at is not None:
                        self.sending.congestion.measure(now - sent_at, now)
                        self._pong_at = now
                        self._pings_left = 0
                case frames.Done():
                    self._done_heard = True
        self._advance(events, now)
        return events

    def _advance(self, events: list[Event], now: float) -> None:
        """Move on along the theory of operation after anything that may end a direction."""
        receiving, sending = self.receiving, self.sending
        if not receiving.complete:  # so neither is the whole
            return
        if not self._ended_told:
            full = receiving.mode is frames.CloseMode.FULL
            self._ended_told = True
            if not receiving.discarding:
                events.append(Ended(full, receiving.reason))
        if receiving.mode is frames.CloseMode.FULL and not self._stopped:
            self._stopped = True
            if sending.unacknowledged or not sending.closing:
                sending.cut()
        if self.state is State.OPEN and sending.complete:
            self.state = State.DONE
            self._done_owed = True
            self._linger_until = now + LINGER
        if self.state is State.DONE and (self._done_heard or now >= self._linger_until) and not self._done_owed:
            self.state = State.CLOSED
            events.append(Closed(receiving.reason, remote=False))

    def due(self, now: float) -> bool:
        """Say whether `next_plain` has a packet."""
        ack_due = self.receiving.ack_due
        if (ack_due is not None and ack_due <= now) or self._pongs or self._ping_owed or self._done_owed:
            return True
        return self.sending.ready()

    def next_plain(self, now: float, *, held: bool = False) -> bytes | None:
        """Return the plain text of the next packet that is due, to be sealed by `seal` at once; None if none is.

        `held`: nothing of the stream, only what finds out whether packets pass. At most MAX_PLAIN bytes. Raises
        LoopError when the counters are used up.
        """
        if self.state is _CLOSED:
            return None
        if self._counter >= COUNTER_LIMIT:
            raise LoopError("all counters of this loop are used up")
        parts: list[bytes] = []
        if self._pongs:
            parts.extend(frames.encode(frames.Pong(token)) for token in self._pongs)
            self._pongs.clear()
        if self._ping_owed:
            self._ping_owed = False
            self._ping_at = self._pings[self._counter] = now
            if len(self._pings) > MAX_PINGS:
                del self._pings[next(iter(self._pings))]
            parts.append(frames.encode(frames.Ping(self._counter)))
        data = None if held else self.sending.next_frame(self._counter, now)
        due = self.receiving.ack_due
        if due is not None and (due <= now or data is not None or parts):
            parts.append(frames.encode(self._ack(now, data)))
        if self._done_owed and data is None:
            self._done_owed = False
            parts.append(frames.encode(frames.Done()))
        if data is not None:
            if not parts:
                self._sent_at = now
                return data
            parts.append(data)
        if not parts:
            return None
        self._sent_at = now
        return b"".join(parts)

    def _ack(self, now: float, data: bytes | None) -> frames.Ack:
        room = MAX_PLAIN - _ACK_ROOM - (len(data) if data is not None else 0)
        return self.receiving.ack(now, frames.MAX_RANGES if room > frames.MAX_ACK_SIZE + MAX_PONGS * 9 else 0)

    def seal(self, plain: bytes, out: memoryview) -> None:
        """Seal what `next_plain` or `abort` gave into `out`, which has OVERHEAD bytes more; this uses up a counter."""
        counter = self._counter
        self._counter = counter + 1
        _COUNTER.pack_into(out, 0, counter)
        self._seal_cipher.seal_into(counter, plain, out[COUNTER_SIZE:])

    def rewind(self, now: float, floor: Floor | None = None) -> None:
        """The route changed: send again whatever is not acknowledged, and say at once what arrived here."""
        self.sending.rewind(self._counter, floor)
        self.sending.last_progress = now
        self._pings.clear()
        self.receiving.ack_due = now
        self.ping(now)

    # -- time

    def deadline(self) -> float:
        """Return when `on_timer` wants to be called next."""
        soonest = self._sent_at + KEEPALIVE
        sending = self.sending
        ack_due = self.receiving.ack_due
        if ack_due is not None and ack_due < soonest:
            soonest = ack_due
        probe = sending.deadline()
        if probe is not None and probe < soonest:
            soonest = probe
        if self._pings_left:
            soonest = min(soonest, self._ping_at + PING_AGAIN)
        if self._asked_at:
            soonest = min(soonest, self._asked_at + self._answer_within())
        if sending.starved:
            soonest = min(soonest, self._starved_probe_at)
        if self.state is _DONE:
            soonest = min(soonest, 0.0 if self._done_heard and not self._done_owed else self._linger_until)
        return soonest

    def on_timer(self, now: float) -> list[Event]:
        """Do what time asks for; `next_plain` may have packets afterwards."""
        self.sending.on_timer(now)
        if self.sending.starved and now >= self._starved_probe_at:
            self._starved_probe_at = now + STARVED_PROBE
            self._ping_owed = True
            if self.proved_at >= self._asked_at:  # with nothing under way, only pongs tell that packets pass
                self._asked_at = now
        if self._pings_left and now - self._ping_at >= PING_AGAIN:
            self._pings_left -= 1
            self._ping_at = now
            self._ping_owed = True
        if self._asked_at and now - self._asked_at >= self._answer_within():
            self._unanswered = self.proved_at < self._asked_at
            self._asked_at = 0.0
        if now - self._sent_at >= KEEPALIVE:
            self.ping(now)
            self._sent_at = now  # if the link has no room now, the next one is due a whole interval later
        if self.state is _DONE and now >= self._linger_until:
            self._done_owed = False  # it found no way in all that time; who misses it asks for another one
        events: list[Event] = []
        self._advance(events, now)
        return events

    def _answer_within(self) -> float:
        return max(UNANSWERED, min(self.sending.congestion.probe_after(), SLOWEST))

    @property
    def heard(self) -> bool:
        """Whether any packet of the other end verified."""
        return self.last_counter >= 0

    @property
    def heard_at(self) -> float:
        """When the last packet of the other end came that verified; 0.0 if never."""
        return self.receiving.heard_at

    @property
    def proved_at(self) -> float:
        """When the other end last answered something that went over this end's route; 0.0 if never."""
        return max(self._pong_at, self.sending.proved_at)

    def stalled(self, now: float) -> bool:
        """Say whether data is under way, or pings are, and nothing came back for too long: the route may be dead."""
        if self._unanswered:
            self._unanswered = False
            return True
        sending = self.sending
        if not sending.under_way:
            return False
        if sending.acknowledged > self._stalled_at:
            self._stall_factor = 1.0
        patience = min(max(sending.congestion.smoothed * STALL_FACTOR, MIN_STALL), MAX_STALL) * self._stall_factor
        # Where a round trip takes longer than that, slow is not dead.
        patience = min(max(patience, sending.congestion.probe_after()), SLOWEST)
        if now - max(sending.last_progress, self.proved_at) <= patience:
            return False
        # Should the next route be as silent, it may be the bytes that take so long.
        self._stall_factor *= 2
        self._stalled_at = sending.acknowledged
        return True
