"""The chat's page and what it asks: JSON under /api/, events under /api/events (server-sent events).

The page itself is public to this machine; everything under /api/ wants the token, as `Authorization: Bearer TOKEN`. The
token reaches the page behind the # of its address, which browsers send to nobody.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import ClassVar

from skywire_common.errors import DecodeError, ErrorCode, Failure

from skywire_apps.chat.http import Reply, Request, plain
from skywire_apps.chat.talk import Event, Talk, shown
from skywire_apps.chat.wire import MAX_CHARACTERS

MAX_PAGES = 16
# A page that takes no events for so long connects again and asks for everything.
MAX_EVENTS = 256
KEEP_ALIVE_S = 15.0
PAGE_SIZE = 100

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_STATUS = {
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.LIMIT_REACHED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Page:
    """Answer the requests of pages about one chat."""

    def __init__(self, talk: Talk, token: str) -> None:
        self._talk = talk
        self._token = token.encode()
        self._watching = 0
        self._files = {
            path: (files(__package__).joinpath("static", name).read_bytes(), kind)
            for path, (name, kind) in _FILES.items()
        }

    async def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if not request.path.startswith("/api/"):
            return self._file(request)
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, self._token):
            return _error(HTTPStatus.UNAUTHORIZED, "open the page by its whole address, with what is behind the #")
        handler = self._ROUTES.get((request.method, request.path))
        if handler is None:
            return _error(HTTPStatus.NOT_FOUND, "there is nothing here")
        try:
            return await handler(self, request)
        except DecodeError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        except Failure as failure:
            return _error(_STATUS.get(failure.code, HTTPStatus.BAD_REQUEST), failure.cause)

    def _file(self, request: Request) -> Reply:
        found = self._files.get(request.path)
        if found is None:
            return plain(HTTPStatus.NOT_FOUND, "there is nothing here")
        if request.method != "GET":
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "this can only be looked at")
        body, kind = found
        return Reply(HTTPStatus.OK, kind, body)

    async def _contacts(self, request: Request) -> Reply:
        return _json({"own": self._talk.own, "contacts": self._talk.contacts(), "longest": MAX_CHARACTERS})

    async def _messages(self, request: Request) -> Reply:
        before = request.query.get("before", "")
        if before and not (before.isascii() and before.isdigit() and len(before) < 16):
            raise DecodeError("before is a number")
        found = self._talk.store.page(_key(request.query), int(before) if before else None, PAGE_SIZE)
        return _json({"messages": [shown(entry) for entry in found], "more": len(found) == PAGE_SIZE})

    async def _send(self, request: Request) -> Reply:
        asked = _body(request)
        text = asked.get("text")
        return _json(self._talk.send(_key(asked), text if isinstance(text, str) else ""))

    async def _add(self, request: Request) -> Reply:
        asked = _body(request)
        name = asked.get("name")
        self._talk.add(_key(asked), name if isinstance(name, str) else "")
        return _json({})

    async def _block(self, request: Request) -> Reply:
        asked = _body(request)
        await self._talk.block(_key(asked), asked.get("blocked") is True)
        return _json({})

    async def _remove(self, request: Request) -> Reply:
        await self._talk.remove(_key(_body(request)))
        return _json({})

    async def _show(self, request: Request) -> Reply:
        asked = _body(request)
        up_to = asked.get("up_to")
        if type(up_to) is not int or not 0 <= up_to < 1 << 62:
            raise DecodeError("up_to is a number")
        self._talk.show(_key(asked), up_to)
        return _json({})

    async def _events(self, request: Request) -> Reply:
        if self._watching >= MAX_PAGES:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_PAGES} pages are open already")
        return Reply(HTTPStatus.OK, "text/event-stream", parts=self._follow())

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        events: asyncio.Queue[Event | None] = asyncio.Queue(MAX_EVENTS)

        def put(event: Event) -> None:
            if events.full():
                # The page is too slow: it starts again with everything.
                while not events.empty():
                    events.get_nowait()
                events.put_nowait(None)
            else:
                events.put_nowait(event)

        self._watching += 1
        self._talk.watchers.append(put)
        try:
            yield b"event: hello\ndata: {}\n\n"
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        event = await events.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if event is None:
                    return
                yield b"event: %b\ndata: %b\n\n" % (str(event["event"]).encode(), json.dumps(event).encode())
        finally:
            self._talk.watchers.remove(put)
            self._watching -= 1

    _ROUTES: ClassVar[dict[tuple[str, str], Callable[[Page, Request], Awaitable[Reply]]]] = {
        ("GET", "/api/contacts"): _contacts,
        ("GET", "/api/messages"): _messages,
        ("GET", "/api/events"): _events,
        ("POST", "/api/messages"): _send,
        ("POST", "/api/contacts"): _add,
        ("POST", "/api/block"): _block,
        ("POST", "/api/remove"): _remove,
        ("POST", "/api/show"): _show,
    }


def _body(request: Request) -> dict[str, object]:
    # A page of somebody else can send forms and plain text here, but no JSON, without the browser asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise DecodeError("JSON is wanted")
    try:
        asked = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise DecodeError("this is no JSON") from error
    if not isinstance(asked, dict):
        raise DecodeError("a JSON object is wanted")
    return asked


def _key(asked: Mapping[str, object]) -> str:
    key = asked.get("contact")
    if not isinstance(key, str):
        raise DecodeError("contact is a node's key")
    return key


def _json(value: object) -> Reply:
    return Reply(HTTPStatus.OK, "application/json", json.dumps(value).encode())


def _error(status: HTTPStatus, text: str) -> Reply:
    return Reply(status, "application/json", json.dumps({"error": text}).encode())
