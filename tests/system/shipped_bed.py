"""Two nodes whose apps carry other programs' connections, and the services behind the exit: what there is to carry."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Topology, plan

FORWARD_PORT, SOCKS_PORT, SSH_PORT = 21, 3, 2
PASSWORD = "a long secret"
WITHIN = 60.0


class Service:
    """TCP and UDP services behind the exit: an echo that half-closes, a page, an echo of datagrams."""

    def __init__(self, echo: asyncio.Server, page: asyncio.Server, datagrams: asyncio.DatagramTransport) -> None:
        self.echo = echo.sockets[0].getsockname()[1]
        self.page = page.sockets[0].getsockname()[1]
        self.datagrams = datagrams.get_extra_info("sockname")[1]


class Bed:
    """Two nodes; the first has the near ends, the second the exits."""

    def __init__(self, net: Testnet, place: Path, service: Service) -> None:
        self.net, self.place, self.service = net, place, service

    def near(self, name: str) -> tuple[str, int]:
        """Return where a near end listens."""
        said = json.loads((self.place / f"{name}.json").read_text())
        return said["host"], said["port"]

    def log(self) -> str:
        return "".join((node.directory / f"{node.name}.log").read_text()[-4000:] for node in self.net.nodes)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and the number of bytes once the other direction has ended."""
    size = 0
    try:
        while part := await reader.read(65_536):
            size += len(part)
            writer.write(part)
            await writer.drain()
        writer.write(b"%d" % size)
    except ConnectionError:
        # A client that left in the middle, as one of the tests has it.
        return
    finally:
        writer.close()


PICTURES = 40
# What a page on the web has: a style, a script that asks for more, many pictures.
SITE = {
    "/site": (
        "text/html",
        b"<!doctype html><title>a site</title><link rel=icon href=data:,><link rel=stylesheet href=/style><h1>Site</h1>"
        + b"".join(b"<img alt='' src=/picture?%d>" % number for number in range(PICTURES))
        + b"<p id=said></p><script src=/script></script>",
    ),
    "/style": ("text/css", b"h1 { color: rgb(1, 2, 3) }"),
    "/script": (
        "text/javascript",
        b"fetch('/').then(r => r.text()).then(t => document.getElementById('said').append(t))",
    ),
    "/picture": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>" + b" " * 20_000),
}


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        # Browsers connect ahead, and leave.
        writer.close()
        return
    kind, body = SITE.get(path.partition("?")[0], ("text/plain", b"hello"))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def opened() -> AsyncIterator[Bed]:
    """Start both nodes and all their apps; at the end every app stops as it should."""
    place = Path(tempfile.mkdtemp(prefix="sw"))
    loop = asyncio.get_running_loop()
    echoing = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=512)
    paging = await asyncio.start_server(page, "127.0.0.1", 0, backlog=512)
    datagrams, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    service = Service(echoing, paging, datagrams)
    (place / "authorized").touch()
    (place / "password").write_text(PASSWORD + "\n")

    def app(name: str, port: int, *args: str) -> AppPlan:
        program = "socksproxy_client" if name == "browse" else name.replace("-", "_")
        command = (sys.executable, "-m", f"skywire_apps.{program}")
        return AppPlan(name, "1.0", port, command, args, auto_start=True)

    login = ("--user", "bob", "--password-file", str(place / "password"))
    allowed = [word for entry in ("127.0.0.0/8", "localhost", "::1") for word in ("--allow", entry)]
    near = (
        app("forward", 0, "listen", f"{{node2}}:{FORWARD_PORT}", "--output", str(place / "forward.json")),
        app("ssh", SSH_PORT, "--authorized", str(place / "authorized"), "--shell", "/bin/sh"),
        app("ssh-client", 0, "--socket", str(place / "ssh.sock")),
        app(
            "socksproxy-client", 0, "{node2}", "--listen", "127.0.0.1:0", "--output", str(place / "socks.json"), *login
        ),
        # Browsers give no password to a SOCKS proxy.
        app("browse", 0, "{node2}", "--listen", "127.0.0.1:0", "--output", str(place / "browse.json")),
    )
    far = (
        app("forward", FORWARD_PORT, "serve", "--target", f"127.0.0.1:{service.echo}"),
        app("ssh", SSH_PORT, "--node", "{node1}", "--shell", "/bin/sh"),
        app("socksproxy", SOCKS_PORT, *allowed, "--deny", "127.0.0.9"),
    )
    try:
        async with Testnet(plan(2, Topology.LINE, apps={0: near, 1: far}), place / "net", shape="2") as net:
            made = Bed(net, place, service)
            async with asyncio.timeout(WITHIN):
                for node in net.nodes:
                    while any(one.state != "READY" for one in await node.admin.apps()):
                        await asyncio.sleep(0.05)
                while not all(
                    (place / name).exists() for name in ("forward.json", "socks.json", "browse.json", "ssh.sock")
                ):
                    await asyncio.sleep(0.05)
            yield made
            for node in net.nodes:
                for one in await node.admin.apps():
                    stopped = await node.admin.stop_app(one.name)
                    assert stopped.reason.startswith("exit code 0"), (one.name, stopped.reason)
            assert not (place / "ssh.sock").exists()
    finally:
        for server in (echoing, paging):
            server.close()
        datagrams.close()
        shutil.rmtree(place, ignore_errors=True)
