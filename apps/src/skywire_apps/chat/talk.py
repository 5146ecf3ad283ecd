"""The chat as its page sees it: contacts, messages, and what is new."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from skywire_app import Addr, App, Failure, PublicKey, Stream
from skywire_app.app import Opening
from skywire_common.errors import DecodeError, ErrorCode

from skywire_apps.chat.friend import PORT, Friend
from skywire_apps.chat.store import Entry, Kind, Store
from skywire_apps.chat.wire import Message, check_text
from skywire_apps.report import Report

# Contacts that are greeted at once when the chat starts.
GREETED_AT_ONCE = 8

Event = dict[str, object]


class Talk:
    """All contacts of one chat. Each of `watchers` is called with every event that a page should see."""

    def __init__(self, app: App, store: Store, own: PublicKey | None, report: Report) -> None:
        self.store = store
        self.own = str(own) if own is not None else ""
        self.watchers: list[Callable[[Event], None]] = []
        self._app = app
        self._report = report
        self._friends: dict[str, Friend] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random(secrets.randbits(64))

    # For the app.

    async def take(self, stream: Stream) -> None:
        """Use a stream that another chat has opened."""
        self._spawn(self._take(stream), f"chat with {stream.remote}")

    async def greet(self) -> None:
        """Dial every contact once: who has something for us, or from us, hears that we are back."""
        slots = asyncio.Semaphore(GREETED_AT_ONCE)

        async def one(key: str) -> None:
            async with slots:
                try:
                    stream = await self.dial(Addr(PublicKey.parse(key), PORT))
                except Failure:
                    # Away; what waits for them is dialled for again and again.
                    if self.store.waiting(key, 1):
                        self._friend(key).say()
                    return
            self._learn(stream)
            self._spawn(self._friend(key).use(stream), f"chat with {key[:10]}")

        await asyncio.gather(*map(one, self.store.keys()))

    async def close(self) -> None:
        """Close every stream in order."""
        for friend in tuple(self._friends.values()):
            await friend.hang_up()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # For the page.

    def contacts(self) -> list[Event]:
        """Return all contacts as the page shows them."""
        return [self._contact(*contact) for contact in self.store.contacts()]

    def add(self, key: str, name: str) -> None:
        """Make somebody a friend, or rename them; raises DecodeError, Failure."""
        key = str(PublicKey.parse(key.strip().lower()))
        if key == self.own:
            raise DecodeError("that is the key of this node")
        self.store.put_contact(key, name)
        self.changed(key)
        self._friend(key).say()

    async def block(self, key: str, blocked: bool) -> None:
        """Take nothing from a contact any more, or take it again."""
        for contact in self.store.contacts():
            if contact.key == key:
                self.store.put_contact(key, contact.name, Kind.BLOCKED if blocked else Kind.FRIEND)
                if blocked and key in self._friends:
                    await self._friends[key].hang_up()
        self.changed(key)

    async def remove(self, key: str) -> None:
        """Forget a contact and the conversation."""
        if key in self._friends:
            await self._friends[key].hang_up()
        self.store.remove_contact(key)
        self._forget(key)
        self.changed(key)

    def send(self, key: str, text: str) -> Event:
        """Write to a contact; raises DecodeError, Failure. Whether they are there does not matter."""
        kind = self.store.kind(key)
        if kind is None:
            raise Failure(ErrorCode.NOT_FOUND, "there is no such contact")
        if kind is Kind.BLOCKED:
            raise Failure(ErrorCode.CONFLICT, "you have blocked this contact")
        message = Message(secrets.token_hex(16), time.time_ns() // 1_000_000, check_text(text))
        entry = self.store.write(key, message)
        self.told([entry])
        self._friend(key).say()
        return shown(entry)

    def show(self, key: str, up_to: int) -> None:
        """Note that the page has shown a contact's messages."""
        ids = self.store.show(key, up_to)
        if ids:
            self._friend(key).say_read(ids)
            self.changed(key)

    # What friends ask (friend.Outside).

    def dial(self, remote: Addr) -> Opening[Stream]:
        """Open a stream."""
        return self._app.dial(remote)

    def told(self, entries: list[Entry]) -> None:
        """Pass messages on to the pages."""
        for entry in entries:
            self._publish({"event": "message", "message": shown(entry)})

    def changed(self, key: str) -> None:
        """Have the pages look at a contact again."""
        self._publish({"event": "contact", "key": key})

    def jitter(self) -> float:
        """Return a random number from 0 to 1."""
        return self._random.random()

    # Within.

    async def _take(self, stream: Stream) -> None:
        key = str(stream.remote.public_key)
        self._learn(stream)
        await self._friend(key).use(stream)
        self._forget(key)

    def _learn(self, stream: Stream) -> None:
        if not self.own:
            self.own = str(stream.local.public_key)
            self._publish({"event": "contact", "key": self.own})

    def _contact(self, key: str, name: str, kind: Kind, unread: int, last: Entry | None) -> Event:
        friend = self._friends.get(key)
        online = friend is not None and friend.online
        problem = friend.problem if friend is not None and not online else ""
        return {
            "key": key,
            "name": name,
            "kind": kind,
            "unread": unread,
            "last": shown(last) if last is not None else None,
            "online": online,
            "problem": problem,
        }

    def _friend(self, key: str) -> Friend:
        friend = self._friends.get(key)
        if friend is None:
            addr = Addr(PublicKey.parse(key), PORT)
            friend = self._friends[key] = Friend(key, addr, self, self._spawn)
        return friend

    def _forget(self, key: str) -> None:
        """Keep nothing of somebody who is neither a contact nor connected."""
        friend = self._friends.get(key)
        if friend is not None and not friend.online and self.store.kind(key) is None:
            del self._friends[key]

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{task.get_name()} ended", "exception": error, "task": task}
            )

    def _publish(self, event: Event) -> None:
        for watcher in tuple(self.watchers):
            watcher(event)


def shown(entry: Entry) -> Event:
    """Return a message as the page shows it."""
    return {
        "seq": entry.seq,
        "contact": entry.contact,
        "mine": entry.mine,
        "at": entry.at,
        "text": entry.text,
        "state": entry.state.name.lower(),
        "why": entry.why,
    }
