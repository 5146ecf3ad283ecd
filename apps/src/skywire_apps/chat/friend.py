"""One contact: the streams with their chat, what goes over them, and dialling when there is something to say.

Theory of operation. Either end opens a stream when it has something to say and none is open; both use it. On a new
stream goes first what was written meanwhile, and the question which messages were seen. A message is SENT once it is in
the stream, DELIVERED when the chat there has it on its disk, READ when its page has shown it. When a stream ends, what
was SENT and not answered waits again. While somebody is away the dials are 1 s, 2 s, 4 s … 60 s apart, each time a
random part of it; whoever comes back dials, and is heard at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from skywire_app import Addr, ErrorCode, Failure, IncompleteRead, Stream
from skywire_app.app import Opening
from skywire_common.errors import DecodeError

from skywire_apps.chat import wire
from skywire_apps.chat.store import Entry, Store
from skywire_apps.chat.wire import Asking, Delivered, Message, Read, Refused, Said, State
from skywire_apps.relay import explain
from skywire_apps.together import until_one_ends

PORT = 1
DIAL_TIMEOUT_S = 60.0
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
LEAST_DELAY_S = 0.25
# Messages that go into the stream before it is looked whether they fit.
BATCH = 32
# Two that both dial have two; more than that is somebody who forgets to close.
MAX_STREAMS = 4


class Outside(Protocol):
    """What a friend asks of the chat."""

    store: Store

    def dial(self, remote: Addr) -> Opening[Stream]:
        """Open a stream."""

    def told(self, entries: list[Entry]) -> None:
        """Say that messages are new or have moved on."""

    def changed(self, key: str) -> None:
        """Say that a contact is there, or away, or unknown until now."""

    def jitter(self) -> float:
        """Return a random number from 0 to 1."""


class Friend:
    """Somebody on another node, whoever dials."""

    def __init__(self, key: str, addr: Addr, outside: Outside, spawn: Callable[..., asyncio.Task[None]]) -> None:
        self.key = key
        self.problem = ""
        self._addr = addr
        self._outside = outside
        self._spawn = spawn
        self._streams: dict[Stream, asyncio.Event] = {}
        self._receipts: list[str] = []
        self._hung_up = False
        self._dialling: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        # Dials since something that a chat says was heard.
        self._failures = 0

    @property
    def online(self) -> bool:
        """Whether a stream is open."""
        return bool(self._streams)

    # What the chat asks.

    def say(self) -> None:
        """Send what waits, over the newest stream, or over one that is dialled for it."""
        self._hung_up = False
        if self._streams:
            next(reversed(self._streams.values())).set()
        elif self._dialling is None:
            self._dialling = self._spawn(self._dial(), f"chat dials {self.key[:10]}")
        else:
            self._hurry.set()

    def say_read(self, ids: tuple[str, ...]) -> None:
        """Tell that messages were shown here; who is away asks when they are back."""
        if self._streams:
            self._receipts.extend(ids)
        self.say()

    async def hang_up(self) -> None:
        """Close every stream and dial no more, until there is something to say."""
        self._hung_up = True
        if self._dialling is not None:
            self._dialling.cancel()
        for stream in tuple(self._streams):
            await stream.close()

    async def use(self, stream: Stream) -> None:
        """Use a stream that was dialled here, and close it."""
        try:
            async with stream:
                await self.carry(stream)
        except (Failure, IncompleteRead, DecodeError) as error:
            self._trouble(str(error))

    async def carry(self, stream: Stream) -> None:
        """Use one stream until it ends; whoever opened it closes it. Raises Failure, DecodeError, IncompleteRead."""
        if len(self._streams) >= MAX_STREAMS:
            return
        news = self._streams[stream] = asyncio.Event()
        news.set()
        if len(self._streams) == 1:
            self._outside.changed(self.key)
        try:
            await until_one_ends(self._listen(stream), self._tell(stream, news))
        finally:
            del self._streams[stream]
            self._over()

    # Within.

    def _over(self) -> None:
        back = self._outside.store.give_back(self.key)
        self._outside.told(back)
        if not self._streams:
            self._receipts.clear()
            self._outside.changed(self.key)
        if back and not self._hung_up:
            self.say()

    async def _listen(self, stream: Stream) -> None:
        while True:
            prefix = await stream.read(wire.LENGTH_SIZE)
            if not prefix:
                return
            prefix += await stream.readexactly(wire.LENGTH_SIZE - len(prefix))
            said = wire.decode(await stream.readexactly(wire.frame_size(prefix)))
            self.problem, self._failures = "", 0
            answer = self._take(said)
            if answer is not None:
                stream.write(wire.encode(answer))
                await stream.drain()

    def _take(self, said: Said) -> Said | None:
        store = self._outside.store
        match said:
            case Message():
                return self._message(said)
            case Asking():
                shown = store.shown(self.key, said.ids)
                return Read(shown) if shown else None
            case Delivered():
                self._outside.told(store.advance(self.key, said.ids, State.DELIVERED))
            case Read():
                self._outside.told(store.advance(self.key, said.ids, State.READ))
            case Refused():
                self._outside.told(store.advance(self.key, (said.id,), State.REFUSED, said.why))
        return None

    def _message(self, message: Message) -> Said:
        store = self._outside.store
        known = store.kind(self.key) is not None
        try:
            entry = store.take(self.key, message)
        except Failure as failure:
            if failure.code is ErrorCode.UNAVAILABLE:
                raise  # the disk may have room for it later; whoever wrote it sends it again
            return Refused(message.id, failure.cause)
        if entry is None:
            return Read((message.id,)) if store.shown(self.key, (message.id,)) else Delivered((message.id,))
        if not known:
            self._outside.changed(self.key)
        self._outside.told([entry])
        return Delivered((message.id,))

    async def _tell(self, stream: Stream, news: asyncio.Event) -> None:
        store = self._outside.store
        unseen = store.unseen(self.key)
        if unseen:
            stream.write(wire.encode(Asking(unseen)))
        while True:
            await news.wait()
            news.clear()
            while self._receipts:
                ids = tuple(self._receipts[: wire.MAX_IDS])
                del self._receipts[: wire.MAX_IDS]
                stream.write(wire.encode(Read(ids)))
                await stream.drain()
            while batch := store.waiting(self.key, BATCH):
                for entry in batch:
                    stream.write(wire.encode(Message(entry.id, entry.at, entry.text)))
                self._outside.told(store.advance(self.key, [entry.id for entry in batch], State.SENT))
                await stream.drain()

    async def _dial(self) -> None:
        """Dial until a stream is open, or nothing waits for it any more."""
        try:
            while not self._streams:
                await self._pause()
                self._failures += 1
                try:
                    async with asyncio.timeout(DIAL_TIMEOUT_S):
                        stream = await self._outside.dial(self._addr)
                except Failure as failure:
                    self._trouble(explain(failure))
                except TimeoutError:
                    self._trouble("no answer in time")
                else:
                    self._spawn(self.use(stream), f"chat with {self.key[:10]}")
                    return
                if not self._outside.store.waiting(self.key, 1):
                    return
        finally:
            self._dialling = None

    async def _pause(self) -> None:
        """Wait the longer the more dials came to nothing, but less when the person at the page has something to say."""
        self._hurry.clear()
        if self._failures:
            longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._failures - 1, 30))
            await asyncio.sleep(LEAST_DELAY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(longest * self._outside.jitter()):
                    await self._hurry.wait()

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._outside.changed(self.key)
