"""The chat as its node runs it, seen by programs of this machine: what the page gets, and what nobody else gets."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from skywire_apps.chat import command, http, page
from skywire_apps.chat.http import Reply, Request, Site
from skywire_common.errors import DecodeError
from skywire_node.apps.run import AppSpec, AppState
from unit.app.test_shipped_apps import link
from unit.node.app_world import KEY, World, opened

STATIC = Path(page.__file__).parent / "static"
FRIEND = "03" + "22" * 32


class Browser:
    """What a page has: an address, and the token behind its #."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.base = f"http://{parts.netloc}"
        self.auth = {"Authorization": f"Bearer {parts.fragment}"}
        self.client = httpx.AsyncClient(base_url=self.base, timeout=20, trust_env=False)

    async def get(self, path: str) -> Any:
        reply = await self.client.get(path, headers=self.auth)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def post(self, path: str, **body: object) -> httpx.Response:
        return await self.client.post(path, json=body, headers=self.auth)


async def started(world: World) -> Browser:
    """Start the chat and open its page."""
    host = world.host
    assert host is not None
    url = world.folder / "local/chat/v1.0/page.url"
    url.unlink(missing_ok=True)
    host.start_app("chat")
    await world.until_state("chat", AppState.READY)
    await world.until(lambda: any("the page is on" in str(line) for line in world.lines()))
    return Browser(url.read_text().strip())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        (tmp_path / "bin").mkdir()
        link(made, "chat", "chat")
        made.make(AppSpec("chat", "1.0", port=1, args=("--listen", "127.0.0.1:0")))
        yield made


async def test_a_page_has_contacts_and_a_history_that_outlives_the_app(world: World) -> None:
    browser = await started(world)
    assert (await browser.get("/api/contacts"))["own"] == str(KEY)
    assert (await browser.post("/api/contacts", contact=FRIEND.upper(), name="Friend")).status_code == 200
    sent = await browser.post("/api/messages", contact=FRIEND, text="<script>alert(1)</script>")
    assert sent.json()["state"] == "waiting"
    refused = {
        "/api/contacts": {"contact": "nobody", "name": ""},
        "/api/messages": {"contact": FRIEND, "text": "   "},
        "/api/show": {"contact": FRIEND, "up_to": "x"},
    }
    for path, body in refused.items():
        assert (await browser.post(path, **body)).status_code == 400, path
    assert (await browser.post("/api/messages", contact=str(KEY), text="who?")).status_code == 404
    async with browser.client.stream("GET", "/api/events", headers=browser.auth) as events:
        lines = events.aiter_lines()
        assert await anext(lines) == "event: hello"
        await browser.post("/api/messages", contact=FRIEND, text="zwei")
        async with asyncio.timeout(20):
            while "zwei" not in (line := await anext(lines)):
                pass
        assert json.loads(line.removeprefix("data: "))["message"]["mine"] is True
    await browser.client.aclose()

    host = world.host
    assert host is not None
    assert (await host.stop_app("chat")).reason.startswith("exit code 0"), world.lines()
    folder = world.folder / "local/chat/v1.0"
    for name in ("history.sqlite", "page.token", "page.url"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    token = (folder / "page.token").read_text().strip()
    assert not any(token in str(line) for line in world.logged), "whoever reads the log has the page"

    world.logged.clear()
    browser = await started(world)
    (contact,) = (await browser.get("/api/contacts"))["contacts"]
    assert (contact["name"], contact["last"]["text"]) == ("Friend", "zwei")
    texts = [one["text"] for one in (await browser.get(f"/api/messages?contact={FRIEND}"))["messages"]]
    assert texts == ["<script>alert(1)</script>", "zwei"]
    assert (await browser.post("/api/remove", contact=FRIEND)).status_code == 200
    assert (await browser.get("/api/contacts"))["contacts"] == []
    await browser.client.aclose()


async def test_other_pages_and_programs_without_the_token_get_nothing(world: World) -> None:
    browser = await started(world)
    client, auth = browser.client, browser.auth
    body = {"contact": FRIEND, "name": "x"}
    assert (await client.get("/api/contacts")).status_code == 401
    assert (await client.get("/api/contacts", headers={"Authorization": "Bearer x"})).status_code == 401
    port = urlsplit(browser.base).port
    for headers, status in (
        ({"Host": f"evil.example:{port}"}, 421),  # a name of somebody else's that was made to lead here
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": f"localhost:{port}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"http://127.0.0.1:{(port or 0) ^ 1}"}, 403),  # another program of this machine
        ({"Origin": browser.base}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ):
        reply = await client.post("/api/contacts", json=body, headers={**auth, **headers})
        assert reply.status_code == status, headers
        assert "access-control-allow-origin" not in reply.headers
    form = await client.post("/api/contacts", content=json.dumps(body), headers={**auth, "Content-Type": "text/plain"})
    assert form.status_code == 400, "what a form can send needs no leave of the browser"
    for path in ("/", "/style.css", "/page.js", "/icon.svg"):
        reply = await client.get(path)
        assert reply.status_code == 200
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
    for path in ("/../command.py", "/%2e%2e/command.py", "/static/index.html", "//etc/passwd"):
        assert (await client.get(path)).status_code == 404
    assert (await client.post("/", json={})).status_code == 405
    await client.aclose()


def test_the_page_writes_what_others_wrote_as_text_only() -> None:
    script = (STATIC / "page.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in script
    markup = (STATIC / "index.html").read_text()
    assert "onclick" not in markup
    assert "style=" not in markup
    assert "://" not in markup + script, "nothing is fetched from elsewhere"


@pytest.mark.parametrize("place", ["0.0.0.0:8001", "192.168.1.2:80", "[::]:1", "example.org:80", "x"])
def test_a_page_is_for_this_machine_only(place: str) -> None:
    with pytest.raises(DecodeError):
        command.check_loopback(place)


async def ask(site: Site, data: bytes) -> bytes:
    """Say something raw to a site and return all that it says."""
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()
        server.close()
        await server.wait_closed()


@pytest.fixture
def site() -> Site:
    async def answer(request: Request) -> Reply:
        return http.plain(http.HTTPStatus.OK, f"{request.method} {request.path} {len(request.body)}")

    made = Site(answer)
    made.authorities = frozenset({"here:1"})
    return made


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET /a HTTP/1.1\r\nHost: here:1\r\nConnection: close\r\n\r\n", b" 200 "),
        (b"GET /a HTTP/1.1\r\nHost: here:1\r\nHost: x\r\n\r\n", b" 400 "),
        (b"GET /a HTTP/1.0\r\n\r\n", b" 421 "),
        (b"GET http://[::1 HTTP/1.1\r\nHost: here:1\r\nConnection: close\r\n\r\n", b" 400 "),
        (b"GET /?" + b"a&" * 20 + b" HTTP/1.1\r\nHost: here:1\r\nConnection: close\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01junk\r\n\r\n", b" 400 "),
        (b"GET /" + b"a" * 20_000, b" 431 "),
        (b"POST / HTTP/1.1\r\nHost: here:1\r\nContent-Length: 65537\r\n\r\n" + bytes(65_537), b" 413 "),
    ],
)
async def test_what_browsers_send_is_bounded_and_checked(site: Site, data: bytes, says: bytes) -> None:
    said = await ask(site, data)
    assert says in said.partition(b"\r\n")[0] + b" " or (said == b"reset" and says == b" 413 ")


async def test_pages_that_follow_are_bounded_and_their_end_is_seen() -> None:
    class Quiet:
        watchers: list[object]

        def __init__(self) -> None:
            self.watchers = []

    talk = Quiet()
    served = page.Page(talk, "t")  # type: ignore[arg-type]
    site = Site(served.answer)
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    site.authorities = frozenset({f"{host}:{port}"})
    asked = f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer t\r\n\r\n".encode()

    async def follow() -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(asked)
        return await asyncio.wait_for(reader.readuntil(b"\r\n"), 20), writer

    pages = [await follow() for _ in range(page.MAX_PAGES)]
    assert all(b"200" in first for first, _ in pages)
    too_many, writer = await follow()
    assert b"429" in too_many
    writer.close()
    for _, writer in pages:
        writer.close()
    async with asyncio.timeout(20):
        while talk.watchers:
            await asyncio.sleep(0.01)
    server.close()
    await server.wait_closed()
