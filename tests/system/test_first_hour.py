"""docs/first-hour.md as it stands: every command typed into a shell in an empty folder, every picture looked at.

TRANSCRIPT=1 writes down what came, into the page, and the pictures beside it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from system.browser import Browser, Page, browsing, found

# Four services, two browsers, and a discovery that is away for half a minute.
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(found() is None, reason="no Chromium on this machine: apt-get install chromium"),
]
PAGE = Path(__file__).parents[2] / "docs" / "first-hour.md"
WRITES = bool(os.environ.get("TRANSCRIPT"))
PORTS = ("7200", "7201", "7100", "8000", "8001", "8002", "1080")
LARGEST_PICTURE = 150_000
WITHIN = 150.0
TOKEN = re.compile(r"(http://127\.0\.0\.1:\d+/#)(\S+)")
# What has to be in what a command says, by how the command begins.
SAYS = {
    "skywire status --wait": "READY",
    "skywire node apps\n": "socksproxy-client",
    "curl -s --noproxy": "Hello from the web",
    "skywire node loops": "OPEN",
    "curl -sS": "exit code 97",
    "skywire logs": "is not allowed by this exit",
    "skywire-ssh-client ssh $BOB 'uname": "exit code 7",
    "skywire-ssh-client ssh $BOB uname": "may not log in here",
    "skywire status ||": "DEGRADED",
    "skywire discovery nodes": "alive",
    "skywire doctor ||": "wrong",
    "skywire doctor --fix": "fixed",
    "skywire doctor\n": "nothing is wrong",
}


class Shell:
    """A bash that runs one command after the other, and lives on between them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, command: str) -> tuple[int, str]:
        """Return exit code and what was said, errors between."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        # What a command reads is not what is typed next.
        stdin.write(f"{{ {command}\n}} </dev/null\ncode=$?; echo; echo end-of-command $code\n".encode())
        try:
            async with asyncio.timeout(WITHIN):
                said = (await stdout.readuntil(b"\nend-of-command ")).decode()
                code = int(await stdout.readline())
        except TimeoutError:
            raise AssertionError(f"this does not end: {command}") from None
        return code, said.removesuffix("\nend-of-command ").rstrip("\n")


@asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Shell]:
    scripts = Path(sys.executable).parent
    names = {name: value for name, value in os.environ.items() if not name.startswith("SKYWIRE_")}
    environment = {**names, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "COLUMNS": "150"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "bash",
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,
        limit=1 << 20,
    )
    try:
        yield Shell(process)
    finally:
        # Whatever a command that failed has left.
        os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


def free_ports() -> dict[str, str]:
    """Return a free port for each of the page's; the page's own while it is written."""
    if WRITES:
        return dict(zip(PORTS, PORTS, strict=True))
    ports: dict[str, str] = {}
    while len(ports) < len(PORTS):
        # Below those that the system gives to connections, which would take them before a service does.
        port = random.randrange(10_000, 30_000)
        with socket.socket() as held, suppress(OSError):
            held.bind(("127.0.0.1", port))
            if str(port) not in ports.values():
                ports[PORTS[len(ports)]] = str(port)
    return ports


def commands(block: str) -> Iterator[str]:
    """Cut a block into its commands, without what they said."""
    command = ""
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command
            command = line[2:]
        elif line.startswith("> "):
            command += "\n" + line[2:]
    yield command


class Hour:
    """The page, piece by piece: commands to the shell, pictures to the browsers."""

    def __init__(self, shell: Shell, folder: Path, direct: Browser, proxied: Browser, ports: dict[str, str]) -> None:
        self.shell, self.folder, self.ports = shell, folder, ports
        self.direct, self.proxied = direct, proxied
        self.urls: list[str] = []
        self.windows: dict[str, Page] = {}

    async def block(self, block: str) -> str:
        """Type a block's commands and return it with what came."""
        written = []
        for command in commands(block):
            code, said = await self.shell.run(self.moved(command))
            # Services that are told nothing else take the ports of the page by themselves.
            for config in self.folder.glob("*/config.json"):
                config.write_text(self.moved(config.read_text()))
            assert code == 0, (command, said, self.last_words())
            for begins, word in SAYS.items():
                if f"{command}\n".startswith(begins):
                    assert word in said, (command, said)
            self.urls += [found[0] for found in TOKEN.finditer(said)]
            written.append("$ " + command.replace("\n", "\n> "))
            if said:
                written.append(self.tidy(said))
        return "\n".join(written) + "\n"

    def moved(self, text: str) -> str:
        """Put this run's ports in place of the page's."""
        return re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda port: self.ports[port[0]], text)

    def last_words(self) -> dict[str, str]:
        """Return what each service logged last."""
        return {log.name: log.read_text()[-600:] for log in self.folder.glob("*.log")}

    def tidy(self, said: str) -> str:
        """Take out what lets people in and where it ran; keep the rest as it came."""
        said = TOKEN.sub(r"\1…", said).replace(str(self.folder), "/home/you/sky")
        lines = [line.rstrip() for line in said.splitlines()]
        return "\n".join(line for line in lines if line)

    async def picture(self, name: str) -> None:
        page = await {
            "first-hour-web.png": self.web,
            "first-hour-alice.png": self.alice,
            "first-hour-bob.png": self.bob,
        }[name]()
        path = (PAGE.parent if WRITES else self.folder) / name
        await page.picture(path)
        assert 1_000 < path.stat().st_size < LARGEST_PICTURE

    async def web(self) -> Page:
        page = await self.proxied.page(f"http://127.0.0.1:{self.ports['8000']}/", 700, 240)
        assert await page.js("document.querySelector('h1').textContent") == "Hello from the web"
        return page

    async def alice(self) -> Page:
        """Both windows: she adds him and writes, he accepts her and answers."""
        alice, bob = [await self.direct.page(url, 900, 520) for url in self.urls]
        self.windows = {"bob": bob}
        await bob.until("document.getElementById('own').textContent.length === 66")
        key = await bob.js("document.getElementById('own').textContent")
        await alice.tab_to("key")
        await alice.type(key)
        await alice.tab_to("name")
        await alice.type("Bob")
        await alice.press("Enter")
        await alice.until("document.activeElement.id === 'text'")
        await alice.type("Hello Bob, your web works here!")
        await alice.press("Enter")
        await bob.until("document.querySelector('#contacts button')")
        await bob.js("document.querySelector('#contacts button').click()")
        await bob.until("!document.getElementById('stranger').hidden")
        await bob.js("document.getElementById('accept').click()")
        await bob.until("document.getElementById('stranger').hidden")
        await bob.js("document.getElementById('text').focus()")
        await bob.type("Hello Alice. A file for me?")
        await bob.press("Enter")
        await alice.until("document.querySelector('#messages li.theirs .text')")
        await bob.until("document.querySelector('#messages li.mine').dataset.state === 'read'")
        await alice.until("document.querySelector('#messages li.mine').dataset.state === 'read'")
        return alice

    async def bob(self) -> Page:
        return self.windows["bob"]


async def test_the_first_hour_is_as_it_was_written_down(short_path: Path) -> None:
    ports = free_ports()
    folder = short_path / "sky"
    folder.mkdir()
    # The first block is what `make setup` has done for these tests.
    pieces = re.split(r"(```console\n.*?```\n|!\[[^]]*\]\([^)]*\)\n)", PAGE.read_text(), flags=re.DOTALL)
    first = next(index for index, piece in enumerate(pieces) if piece.startswith("```console"))
    async with (
        shell(folder) as typed,
        browsing() as direct,
        browsing(proxy=f"socks5://127.0.0.1:{ports['1080']}") as proxied,
    ):
        hour = Hour(typed, folder, direct, proxied, ports)
        for index, piece in enumerate(pieces):
            if piece.startswith("```console") and index != first:
                block = piece.removeprefix("```console\n").removesuffix("```\n")
                pieces[index] = f"```console\n{await hour.block(block)}```\n"
            elif piece.startswith("!["):
                await hour.picture(piece[piece.index("(") + 1 : -2])
        assert (folder / "bob" / "copy.bin").read_bytes() == (folder / "report.bin").read_bytes()
        assert not (folder / "alice" / "admin.sock").exists()
    if WRITES:
        PAGE.write_text("".join(pieces))
