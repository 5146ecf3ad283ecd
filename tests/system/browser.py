"""A headless Chromium, driven over its own pipe (--remote-debugging-pipe): no driver, no library.

Messages are JSON with a zero byte behind each, on its descriptors 3 and 4 (the Chrome DevTools Protocol).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WITHIN = 75.0
# On a busy machine whose disk has never seen it.
START_WITHIN = 100.0
_POLL = 0.05
_LARGEST = 64 << 20
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers; only pages of this machine are opened
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-prefers-no-reduced-motion",
)
# Nothing but this machine is looked up, and no proxy asked.
_DIRECT = ("--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1, EXCLUDE localhost")

# Put the two descriptors where the browser looks for them, and become the browser.
_BECOME = """
import fcntl, os, sys
for fd, place in [(fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10), 3 + n) for n, fd in enumerate(sys.argv[1:3])]:
    os.dup2(fd, place)
    os.close(fd)
os.execv(sys.argv[3], sys.argv[3:])
"""
# Windows' numbers of keys, which the protocol wants.
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, "")}


def found() -> str | None:
    """Return the browser of this machine, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process."""

    def __init__(self, reader: asyncio.StreamReader, to_browser: int) -> None:
        self._reader = reader
        self._to_browser = to_browser
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []
        self._hearing = asyncio.ensure_future(self._hear())

    async def ask(self, method: str, session: str = "", within: float = WITHIN, **params: Any) -> dict[str, Any]:
        """Ask the browser and return its answer."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._asked[number] = asyncio.get_running_loop().create_future()
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        try:
            async with asyncio.timeout(within):
                answer = await self._asked[number]
        finally:
            del self._asked[number]
        assert "error" not in answer, (method, answer["error"])
        return dict(answer["result"])

    async def page(self, url: str, width: int = 1000, height: int = 700) -> Page:
        """Open a tab."""
        target = (await self.ask("Target.createTarget", url="about:blank", newWindow=True))["targetId"]
        session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log"):
            await page.ask(f"{domain}.enable")
        await page.resize(width, height)
        await page.open(url)
        return page

    async def _hear(self) -> None:
        # Ends with the browser.
        with suppress(asyncio.IncompleteReadError):
            while True:
                said = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                asked = self._asked.get(said.get("id", 0))
                if asked is not None and not asked.done():
                    asked.set_result(said)
                elif said.get("method") == "Runtime.exceptionThrown":
                    self.errors.append(json.dumps(said["params"]["exceptionDetails"]))
                elif said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                    self.errors.append(said["params"]["entry"]["text"])

    async def close(self) -> None:
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self._session = session

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.browser.ask(method, self._session, **params)

    async def open(self, url: str) -> None:
        """Go to an address and wait until its scripts have run."""
        await self.ask("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def resize(self, width: int, height: int, phone: bool = False) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    async def media(self, **features: str) -> None:
        """Say what the person prefers: prefers_color_scheme="dark"."""
        said = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.ask("Emulation.setEmulatedMedia", features=said)

    async def js(self, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        answer = await self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        try:
            async with asyncio.timeout(WITHIN):
                while not await self.js(f"Boolean({expression})"):
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            shown = await self.js("document.body.innerText")
            raise AssertionError(f"never: {expression}\nerrors: {self.browser.errors}\nthe page:\n{shown}") from None

    async def type(self, text: str) -> None:
        """Type a text where the focus is."""
        await self.ask("Input.insertText", text=text)

    async def press(self, key: str, shift: bool = False) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        said = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **said)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **said)

    async def tab_to(self, element_id: str) -> None:
        """Reach an element by the Tab key alone."""
        for _ in range(50):
            if await self.js("document.activeElement.id") == element_id:
                return
            await self.press("Tab")
        raise AssertionError(f"{element_id} is not reached by Tab")

    async def picture(self, path: Path) -> None:
        """Write what is seen as WebP or PNG."""
        kind = path.suffix[1:]
        quality = {"quality": 80} if kind == "webp" else {}
        taken = await self.ask("Page.captureScreenshot", format=kind, **quality)
        path.write_bytes(base64.b64decode(taken["data"]))


@asynccontextmanager
async def browsing(proxy: str = "") -> AsyncIterator[Browser]:
    """Run a browser with a profile of its own; with a proxy all pages come by it, and it looks all names up."""
    way = _DIRECT
    if proxy:
        # A browser would rather go to this machine by itself.
        rules = ("--proxy-bypass-list=<-loopback>", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
        way = (f"--proxy-server={proxy}", *rules)
    path = found()
    assert path is not None
    profile = Path(tempfile.mkdtemp(prefix="sw-browser"))
    to_browser, from_browser = os.pipe(), os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _BECOME,
        str(to_browser[0]),
        str(from_browser[1]),
        path,
        *_FLAGS,
        *way,
        f"--user-data-dir={profile}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(to_browser[0], from_browser[1]),
        start_new_session=True,
    )
    for fd in (to_browser[0], from_browser[1]):
        os.close(fd)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LARGEST)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_browser[0], "rb", 0)
    )
    browser = Browser(reader, to_browser[1])
    try:
        await browser.ask("Browser.getVersion", within=START_WITHIN)
        yield browser
    finally:
        await browser.close()
        transport.close()
        os.close(to_browser[1])
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)
