"""The apps that carry other programs' connections between two nodes, tried from outside: sockets, curl, OpenSSH."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from skywire_apps import socks
from skywire_apps.socks import Method, Target
from system.browser import browsing, found
from system.shipped_bed import PASSWORD, PICTURES, SSH_PORT, WITHIN, Bed, opened, page

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
async def bed() -> AsyncIterator[Bed]:
    async with opened() as made:
        yield made


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send, end, and check that all comes back with the number behind it: the half-close came through."""
    try:

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await reader.read() == data + b"%d" % len(data)
        await sending
    finally:
        writer.close()


async def test_forward_carries_many_connections_at_once_and_keeps_half_closes(bed: Bed) -> None:
    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(*bed.near("forward"))
        await echoed(reader, writer, os.urandom(1_000_000 if number == 0 else 2_000 + number))

    await one(0)
    await asyncio.gather(*map(one, range(40)))


async def curl(bed: Bed, *args: str, login: str = f"bob:{PASSWORD}") -> tuple[int, bytes]:
    host, port = bed.near("socks")
    proxy = ("--proxy", f"socks5h://{host}:{port}", "--proxy-user", login, "--noproxy", "")
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "50", *proxy, *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out + err


async def test_curl_through_the_proxy_by_address_and_by_name(bed: Bed) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    for host in ("127.0.0.1", "localhost"):
        assert await curl(bed, f"http://{host}:{bed.service.page}/") == (0, b"hello")


async def test_curl_is_told_why_not(bed: Bed) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    code, _ = await curl(bed, f"http://127.0.0.1:{bed.service.page}/", login="bob:wrong")
    assert code == 97
    for target in ("127.0.0.9", "10.0.0.1", "[fd00::1]"):
        code, said = await curl(bed, f"http://{target}:{bed.service.page}/")
        assert (code, b"(2)" in said) == (97, True), said
    with closed_port() as port:
        code, said = await curl(bed, f"http://127.0.0.1:{port}/")
        assert (code, b"(5)" in said) == (97, True), said
    assert "is not allowed by this exit" in bed.log()


async def test_curl_through_the_proxy_to_an_ipv6_address(bed: Bed) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    try:
        server = await asyncio.start_server(page, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    try:
        assert await curl(bed, f"http://[::1]:{server.sockets[0].getsockname()[1]}/") == (0, b"hello")
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.timeout(300)  # a browser's first start on a busy machine is a minute
@pytest.mark.skipif(found() is None, reason="no Chromium on this machine: apt-get install chromium")
async def test_a_browser_through_the_proxy_by_a_name_that_only_the_exit_looks_up(bed: Bed) -> None:
    host, port = bed.near("browse")
    async with browsing(proxy=f"socks5://{host}:{port}") as browser:
        shown = await browser.page(f"http://localhost:{bed.service.page}/site")
        await shown.until("document.getElementById('said').textContent === 'hello'")
        assert await shown.js("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
        assert await shown.js("[...document.images].filter((one) => one.naturalWidth === 9).length") == PICTURES
        assert await shown.js("document.title") == "a site"
        assert browser.errors == []
        loops = await bed.net.nodes[0].admin.loops()
        assert len([loop for loop in loops if loop.app == "browse"]) == 1
        await shown.ask("Page.navigate", url=f"http://127.0.0.9:{bed.service.page}/")
        await shown.until("document.body?.innerText.includes('ERR_SOCKS_CONNECTION_FAILED')")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, held so that nobody else gets it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def ask_proxy(
    bed: Bed, command: int, target: Target
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Target]:
    """Log in and ask for something; return the connection and what the proxy gave."""
    reader, writer = await asyncio.open_connection(*bed.near("socks"))
    password = PASSWORD.encode()
    writer.write(bytes((5, 1, Method.PASSWORD, 1, 3)) + b"bob" + bytes((len(password),)) + password)
    assert await reader.readexactly(4) == b"\5\2\1\0"
    writer.write(bytes((5, command, 0)) + socks.encode_target(target))
    head = await reader.readexactly(4)
    assert head[:3] == b"\5\0\0", head
    rest = await reader.readexactly(6 if head[3] == 1 else 18)
    found = socks.parse_target(head[3:] + rest, 0)
    assert found is not None
    return reader, writer, found[0]


async def loops_of_the_proxy(bed: Bed) -> list[bytes]:
    """Return the loops of the first node that the proxy has there, by the node's own count."""
    loops = await bed.net.nodes[0].admin.loops()
    return [loop.loop_id for loop in loops if loop.app == "socksproxy-client"]


async def test_two_hundred_connections_at_once_on_one_loop_and_those_that_do_not_read_hold_up_none(bed: Bed) -> None:
    target = Target("127.0.0.1", bed.service.echo)
    opened = await asyncio.gather(*(ask_proxy(bed, 1, target) for _ in range(200)))
    try:
        stuck = [writer for _, writer, _ in opened[:20]]
        for writer in stuck:
            writer.write(bytes(1_000_000))  # its echo is never read
        assert len(await loops_of_the_proxy(bed)) == 1
        await asyncio.gather(*(echoed(reader, writer, os.urandom(3_000)) for reader, writer, _ in opened[20:]))
        await echoed(*(await ask_proxy(bed, 1, target))[:2], os.urandom(5_000_000))
        assert len(await loops_of_the_proxy(bed)) == 1
        assert not any(writer.is_closing() for writer in stuck)
    finally:
        for _, writer, _ in opened:
            writer.transport.abort()


async def test_a_loop_that_is_closed_ends_its_connections_and_the_next_one_has_another(bed: Bed) -> None:
    target = Target("127.0.0.1", bed.service.echo)
    opened = [await ask_proxy(bed, 1, target) for _ in range(3)]
    (before,) = await loops_of_the_proxy(bed)
    await bed.net.nodes[0].admin.close_loop(before)
    for reader, writer, _ in opened:
        with pytest.raises(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(1), WITHIN)
            pytest.fail("something came")
        writer.close()
    reader, writer, _ = await ask_proxy(bed, 1, target)
    await echoed(reader, writer, b"by another loop")
    (after,) = await loops_of_the_proxy(bed)
    assert after != before


async def test_datagrams_through_the_proxy(bed: Bed) -> None:
    _, writer, place = await ask_proxy(bed, 3, Target("0.0.0.0", 0))
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
            program.setblocking(False)
            await loop.sock_connect(program, tuple(place))
            for host in ("127.0.0.1", "localhost"):
                target = Target(host, bed.service.datagrams)
                await loop.sock_sendall(program, socks.encode_datagram(Target("127.0.0.9", target.port), b"denied"))
                await loop.sock_sendall(program, socks.encode_datagram(target, host.encode()))
                async with asyncio.timeout(WITHIN):
                    said = await loop.sock_recv(program, 65_536)
                source, payload = socks.parse_datagram(said)
                assert (source, payload) == (Target("127.0.0.1", bed.service.datagrams), host.upper().encode())
    finally:
        writer.close()


def openssh(bed: Bed, program: str, *args: str, port: int = SSH_PORT) -> list[str]:
    """Return the command line of OpenSSH's program by way of ssh-client."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    # The known hosts are the test's own.
    python = ["env", f"HOME={bed.place}", sys.executable]
    command = [*python, "-m", "skywire_apps.ssh_client", program, "--socket", str(bed.place / "ssh.sock")]
    return [*command, "--port", str(port), "-F", "none", *args]


async def run(line: list[str], typed: bytes = b"") -> tuple[int, bytes, bytes]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*line, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate(typed)
    return process.returncode or 0, out, err


async def test_ssh_runs_commands_and_returns_their_ends(bed: Bed) -> None:
    key = bed.net.nodes[1].public_key
    assert await run(openssh(bed, "ssh", key, "cat; echo done; echo no >&2; exit 7"), b"typed ") == (
        7,
        b"typed done\n",
        b"no\n",
    )
    code, out, err = await run(openssh(bed, "ssh", key, "head -c 3000000 /dev/zero"))
    assert (code, len(out), err) == (0, 3_000_000, b"")
    code, out, _ = await run(openssh(bed, "ssh", key, "echo $SKYWIRE_REMOTE; kill -TERM $$"))
    assert (code, out.decode().partition(":")[0]) == (255, bed.net.nodes[0].public_key)


async def test_ssh_has_a_terminal_whose_size_follows(bed: Bed) -> None:
    line = openssh(bed, "ssh", "-tt", bed.net.nodes[1].public_key)
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (33, 77))
    process = await asyncio.create_subprocess_exec(
        *line, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    said = b""

    async def until(text: bytes) -> None:
        nonlocal said
        async with asyncio.timeout(WITHIN):
            while text not in said:
                said += await asyncio.to_thread(os.read, master, 4_096)

    try:
        os.write(master, b"tty && stty size\n")
        await until(b"33 77")
        assert b"/dev/pts/" in said
        # As a terminal tells the program in it; ours is in none, so nobody else does.
        termios.tcsetwinsize(master, (44, 111))
        process.send_signal(signal.SIGWINCH)
        os.write(master, b"until test \"$(stty size)\" = '44 111'; do sleep 0.05; done; echo fol''lowed\n")
        await until(b"followed")
        os.write(master, b"trap 'echo chan''ged' INT; echo wai''ting; sleep 5\n")
        await until(b"waiting")
        os.write(master, b"\x03")  # a terminal's ^C
        await until(b"changed")
        os.write(master, b"exit 3\n")
        assert await asyncio.wait_for(process.wait(), WITHIN) == 3
    finally:
        os.close(master)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_a_client_started_ends_with_it(bed: Bed) -> None:
    mark = bed.place / "pid"
    line = openssh(
        bed, "ssh", bed.net.nodes[1].public_key, f"echo $$ > {mark}.part; mv {mark}.part {mark}; exec sleep 500"
    )
    process = await asyncio.create_subprocess_exec(*line, stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(WITHIN):
        while not mark.exists():
            await asyncio.sleep(0.05)
        started = Path("/proc") / mark.read_text().strip()
        assert started.exists()
        process.kill()
        await process.wait()
        while started.exists():
            await asyncio.sleep(0.05)


async def test_files_are_copied_by_scp_and_sftp(bed: Bed) -> None:
    key = bed.net.nodes[1].public_key
    source, target = bed.place / "source", bed.place / "target"
    source.write_bytes(os.urandom(3_000_000))
    assert await run(openssh(bed, "scp", "-q", str(source), f"{key}:{target}")) == (0, b"", b"")
    assert target.read_bytes() == source.read_bytes()
    target.unlink()
    assert await run(openssh(bed, "scp", "-q", "-O", f"{key}:{source}", str(target))) == (0, b"", b"")
    assert target.read_bytes() == source.read_bytes()
    code, out, err = await run(openssh(bed, "sftp", "-b", "-", key), f"ls -1 {bed.place}\n".encode())
    assert code == 0 and b"target" in out, err


async def test_ssh_forwards_ports(bed: Bed) -> None:
    key = bed.net.nodes[1].public_key
    code, out, err = await run(openssh(bed, "ssh", "-W", f"127.0.0.1:{bed.service.echo}", key), b"forwarded")
    assert (code, out) == (0, b"forwarded9"), err


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@asynccontextmanager
async def forwarding(bed: Bed, *args: str) -> AsyncIterator[None]:
    """Run ssh -N with a forwarding until the block ends."""
    line = openssh(bed, "ssh", "-N", "-o", "ExitOnForwardFailure=yes", *args, bed.net.nodes[1].public_key)
    process = await asyncio.create_subprocess_exec(*line, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of this machine once somebody listens there."""
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["-L", "-R"])
async def test_ssh_carries_ports_in_both_directions(bed: Bed, way: str) -> None:
    # Both nodes are on this machine, so where the listener is shows in the option alone: -L is ssh's, -R its server's.
    port = free_port()
    async with forwarding(bed, way, f"127.0.0.1:{port}:127.0.0.1:{bed.service.echo}"):

        async def one(size: int) -> None:
            await echoed(*await connected(port), os.urandom(size))

        await one(5)
        await asyncio.gather(one(300_000), *(one(100 + number) for number in range(10)))


async def test_ssh_is_a_socks_proxy_as_well(bed: Bed) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    port = free_port()
    async with forwarding(bed, "-D", f"127.0.0.1:{port}"):
        _, writer = await connected(port)
        writer.close()
        url = f"http://localhost:{bed.service.page}/"
        said = await run(["curl", "-sS", "--noproxy", "", "--proxy", f"socks5h://127.0.0.1:{port}", url])
        assert said == (0, b"hello", b"")


async def test_who_may_not_log_in_is_told_so_and_may_once_the_file_says_so(bed: Bed) -> None:
    key = bed.net.nodes[0].public_key
    code, _, err = await run(openssh(bed, "ssh", key, "true"))
    assert code == 255
    assert f"node {key} may not log in here".encode() in err
    (bed.place / "authorized").write_text(f"# this one\n{key}  # me\n")
    assert await run(openssh(bed, "ssh", key, "echo in")) == (0, b"in\n", b"")
    code, _, err = await run(openssh(bed, "ssh", key, "true", port=99))
    assert code == 255
    assert b"PORT_CLOSED" in err and b"start the app there" in err


async def test_nothing_is_left_of_any_connection(bed: Bed) -> None:
    # Loops that carry many connections wait for the next for a while; they end with their apps.
    for name in ("forward", "socksproxy-client", "browse"):
        await bed.net.nodes[0].admin.stop_app(name)
    async with asyncio.timeout(WITHIN):
        for node in bed.net.nodes:
            while (said := await node.admin.summary()).loops + said.rules:
                await asyncio.sleep(0.05)
