"""Two people chat in Chromium, between two nodes; what they see is in the pictures.

SCREENSHOTS=docs/apps writes the pictures of the docs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Topology, plan
from system.browser import Browser, Page, browsing, found

# A browser and two nodes: half a minute.
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(found() is None, reason="no Chromium on this machine: apt-get install chromium"),
]
WITHIN = 60.0
WIKI_ECHO = Path(__file__).parent.parent / "apps" / "wiki_echo.py"
EVIL = '<img src=x onerror="window.injected=1"><script>window.injected=2</script>&lt;'

# For every text on the page: its contrast with what is behind it, as WCAG 2 counts it.
CONTRASTS = """
(() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.offsetParent) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([element.outerHTML.slice(0, 120), ratio]);
  }
  return found;
})()
"""


class Bed:
    """Two nodes with a chat each, and a browser."""

    def __init__(self, net: Testnet, place: Path, browser: Browser) -> None:
        self.net, self.place, self.browser = net, place, browser

    def url(self, index: int) -> str:
        said = json.loads((self.place / f"chat{index}.json").read_text())
        return Path(said["open"]).read_text().strip()

    async def until_ready(self, index: int) -> None:
        node = self.net.nodes[index]
        async with asyncio.timeout(WITHIN):
            while not (self.place / f"chat{index}.json").exists() or (await node.admin.apps())[0].state != "READY":
                await asyncio.sleep(0.05)

    async def picture(self, page: Page, name: str) -> None:
        folder = Path(os.environ.get("SCREENSHOTS", self.place))
        await page.picture(folder / name)


@pytest.fixture(scope="module")
async def bed() -> AsyncIterator[Bed]:
    place = Path(tempfile.mkdtemp(prefix="sw"))
    command = (sys.executable, "-m", "skywire_apps.chat")
    apps = {
        index: (
            AppPlan(
                "chat",
                "1.0",
                1,
                command,
                ("--listen", "127.0.0.1:0", "--output", str(place / f"chat{index}.json")),
                auto_start=True,
            ),
        )
        for index in range(2)
    }
    # On the third node the wiki's app, which says everything back.
    echo = place / "chat.v0.1"  # all nodes of a testnet have one folder of executables
    shutil.copy(WIKI_ECHO, echo)
    apps[2] = (AppPlan("chat", "0.1", 1, (sys.executable, str(echo)), auto_start=True),)
    try:
        async with Testnet(plan(3, Topology.LINE, apps=apps), place / "net", shape="3") as net, browsing() as browser:
            made = Bed(net, place, browser)
            for index in range(2):
                await made.until_ready(index)
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def last(page: Page, text: str, state: str = "") -> None:
    """Wait until the last message on the page is this one, that far."""
    shown = f"{json.dumps(text)} === [...document.querySelectorAll('#messages .text')].at(-1)?.textContent"
    far = f" && document.querySelector('#messages li:last-child').dataset.state === '{state}'" if state else ""
    await page.until(shown + far)


async def test_two_people_chat(bed: Bed) -> None:
    ann = await bed.browser.page(bed.url(0))
    bob = await bed.browser.page(bed.url(1))
    keys = [node.public_key for node in bed.net.nodes]
    for page, key in ((ann, keys[0]), (bob, keys[1])):
        await page.until(f"document.getElementById('own').textContent === '{key}'")
        assert await page.js("location.hash + location.search") == "", "the token stays in no history"

    # All by keyboard.
    await ann.tab_to("key")
    await ann.type(keys[1])
    await ann.tab_to("name")
    await ann.type("Bob")
    await ann.press("Enter")
    await ann.until("document.getElementById('who').textContent === 'Bob'")
    await ann.until("document.activeElement.id === 'text'")
    await ann.type("Hello Bob")
    await ann.press("Enter")
    await last(ann, "Hello Bob", "delivered")

    await bob.until("document.querySelector('#contacts .unread')?.textContent.startsWith('1')")
    assert await bob.js("document.title") == "(1) Skywire chat"
    await bob.js("document.querySelector('#contacts button').click()")
    await last(bob, "Hello Bob")
    await bob.until("!document.getElementById('stranger').hidden")
    await bob.js("document.getElementById('accept').click()")
    await bob.until("document.getElementById('stranger').hidden")
    await last(ann, "Hello Bob", "read")

    await bob.js("document.getElementById('text').focus()")
    await bob.type("Hello Ann, this is\nthe second line")
    await bob.press("Enter")
    await last(ann, "Hello Ann, this is\nthe second line")
    await last(bob, "Hello Ann, this is\nthe second line", "read")

    await ann.type("See you at the station, 18:00?")
    await ann.press("Enter")
    await last(ann, "See you at the station, 18:00?", "read")
    assert bed.browser.errors == []
    await bed.picture(ann, "chat.webp")


async def test_what_is_written_to_somebody_who_is_away_waits(bed: Bed) -> None:
    ann = await bed.browser.page(bed.url(0), 400, 800)
    await ann.resize(390, 780, phone=True)
    await ann.until("document.querySelector('#contacts button')")
    node = bed.net.nodes[1]
    assert (await node.admin.stop_app("chat")).reason.startswith("exit code 0")
    (bed.place / "chat1.json").unlink()
    await ann.js("document.querySelector('#contacts button').click()")
    await ann.until("document.getElementById('presence').textContent.startsWith('Away')")
    await ann.js("document.getElementById('text').focus()")
    await ann.type("For when you are back")
    await ann.press("Enter")
    await last(ann, "For when you are back", "waiting")
    await bed.picture(ann, "chat-phone.webp")
    await node.admin.start_app("chat")
    await bed.until_ready(1)
    await last(ann, "For when you are back", "delivered")
    bob = await bed.browser.page(bed.url(1))
    await bob.until("document.querySelector('#contacts button')")
    await bob.js("document.querySelector('#contacts button').click()")
    await last(bob, "For when you are back")
    await last(ann, "For when you are back", "read")


async def test_it_works_on_a_phone_and_for_everybody(bed: Bed) -> None:
    page = await bed.browser.page(bed.url(0), 360, 640)
    await page.resize(360, 640, phone=True)
    await page.until("document.querySelector('#contacts button')")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    small = (
        "[...document.querySelectorAll('button, input, textarea, summary')]"
        ".filter((e) => e.offsetParent && e.getBoundingClientRect().height < 44).map((e) => e.outerHTML)"
    )
    nameless = (
        "[...document.querySelectorAll('button, input, textarea, output, nav, [role]')].filter((e) =>"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        " || e.labels?.length || e.getAttribute('role') === 'status' || e.getAttribute('role') === 'alert'))"
        ".map((e) => e.outerHTML)"
    )

    async def good() -> None:
        assert await page.js(fits)
        assert await page.js(small) == []
        assert await page.js(nameless) == []
        for scheme in ("light", "dark"):
            await page.media(prefers_color_scheme=scheme)
            assert await page.js(CONTRASTS) == [], scheme

    await good()
    await page.js("document.querySelector('#contacts button').click()")
    await page.until("document.querySelector('#messages li')")
    assert await page.js("!document.getElementById('people').offsetParent"), "one thing at a time"
    await good()
    await bed.picture(page, "chat-dark.webp")
    await page.media(prefers_reduced_motion="reduce")
    assert await page.js("getComputedStyle(document.getElementById('scroll')).scrollBehavior") == "auto"
    log = "document.querySelector('[role=log][aria-live=polite]')"
    assert await page.js(f"{log}.contains(document.getElementById('messages'))")
    await page.press("Escape")
    await page.until("document.activeElement.dataset.key")  # back in the list, where it was left
    # What the browser tells a screen reader: everything that can be focused has a name.
    tree = (await page.ask("Accessibility.getFullAXTree"))["nodes"]
    for node in tree:
        focusable = any(prop["name"] == "focusable" and prop["value"]["value"] for prop in node.get("properties", []))
        if focusable and not node["ignored"] and node["role"]["value"] not in ("RootWebArea", "generic"):
            assert node.get("name", {}).get("value"), node


async def test_what_others_write_is_text_and_nothing_else(bed: Bed) -> None:
    ann, bob = [await bed.browser.page(bed.url(index)) for index in range(2)]
    for page in (ann, bob):
        await page.until("document.querySelector('#contacts button')")
        await page.js("document.querySelector('#contacts button').click()")
        await page.until("document.activeElement.id === 'text'")
    await ann.type(EVIL)
    await ann.press("Enter")
    await last(bob, EVIL)
    await last(ann, EVIL, "read")
    await bob.js("document.getElementById('rename').click()")
    await bob.type(EVIL)
    await bob.press("Enter")
    await bob.until("document.getElementById('who').textContent.includes('onerror')")
    for page in (ann, bob):
        assert await page.js("typeof window.injected") == "undefined"
        assert await page.js("document.querySelectorAll('main img, main script').length") == 0
    # Pages of the test before saw their chat go away.
    assert [error for error in bed.browser.errors if "net::ERR" not in error] == []


async def test_the_wikis_app_is_somebody_who_says_everything_back(bed: Bed) -> None:
    ann = await bed.browser.page(bed.url(0))
    await ann.until("document.getElementById('link').textContent === 'Ready'")
    await ann.tab_to("key")
    await ann.type(bed.net.nodes[2].public_key)
    await ann.press("Enter")
    await ann.until("document.activeElement.id === 'text'")
    await ann.type("Is there an echo?")
    await ann.press("Enter")
    await ann.until("document.querySelectorAll('#messages li.theirs .text').length === 1")
    await last(ann, "Is there an echo?")
    await ann.until("document.querySelector('#messages li.mine').dataset.state === 'read'")


async def test_a_page_of_somebody_else_reaches_nothing(bed: Bed) -> None:
    url, _, token = bed.url(0).partition("#")

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>evil")
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    try:
        evil = await bed.browser.page(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        # Even with the token, which it cannot know.
        for how in (
            f"{{headers: {{Authorization: 'Bearer {token}'}}}}",
            f"{{method: 'POST', headers: {{Authorization: 'Bearer {token}', 'Content-Type': 'application/json'}},"
            f" body: '{{}}'}}",
            "{method: 'POST', mode: 'no-cors', body: '{}'}",
        ):
            said = await evil.js(f"fetch('{url}api/contacts', {how}).then((r) => r.type + r.status, (e) => e.name)")
            assert said in ("TypeError", "opaque0"), said
        framed = (
            f"new Promise((done) => {{ const f = document.createElement('iframe'); f.src = '{url}';"
            " f.onload = () => { try { done(f.contentDocument ? 'seen' : 'not'); } catch { done('not'); } };"
            " document.body.append(f); })"
        )
        assert await evil.js(framed) == "not"
    finally:
        server.close()
        await server.wait_closed()
