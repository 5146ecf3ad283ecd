"""`skywire discovery` against a real discovery, as an operator uses it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract.discovery.targets import GrpcTarget, Keys
from discovery_process import DiscoveryProcess

WATCH_S = 30


def skywire(discovery: DiscoveryProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(discovery.executable()).parent / "skywire"
    return subprocess.run(
        [str(program), "discovery", *arguments, "--discovery", discovery.grpc],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_everything_is_shown_as_table_and_as_json(discovery: DiscoveryProcess) -> None:
    keys, target = Keys(), GrpcTarget(discovery.grpc, discovery.public)
    entry = keys.signed("a-b")
    await target.register(keys["a"], [entry])
    await target.say(keys["a"], [(entry.entry.transport_id, True)])
    await target.beat(keys["a"], 1)
    await target.close()
    a, b = keys["a"].public, keys["b"].public
    status = json.loads(skywire(discovery, "status", "--json").stdout)
    assert status["database_ok"]
    assert status["build"]["public_key"] == str(discovery.public)
    assert "serving" in skywire(discovery, "status").stdout
    [shown] = json.loads(skywire(discovery, "transports", "--node", str(a), "--json").stdout)
    assert shown["entry"]["entry"]["transport_id"] == str(entry.entry.transport_id)
    assert str(entry.entry.transport_id) in skywire(discovery, "transports", "--node", str(a), "--up").stdout
    assert entry.entry.transport_id.hex in skywire(discovery, "transports", "--json").stdout.replace("-", "")
    assert str(a) in {node["public_key"] for node in json.loads(skywire(discovery, "nodes", "--json").stdout)}
    assert "198.51.100.1:7777" in skywire(discovery, "nodes").stdout
    found = json.loads(skywire(discovery, "routes", str(a), str(b), "--json").stdout)
    assert len(found["routes"][0]["forward"]["hops"]) == 1
    assert f"{a.short} → {b.short}" in skywire(discovery, "routes", str(a), str(b)).stdout


def test_nobody_there_is_an_error_that_says_so(discovery: DiscoveryProcess) -> None:
    program = Path(discovery.executable()).parent / "skywire"
    command = [str(program), "discovery", "status", "--discovery", "127.0.0.1:1", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 3
    assert json.loads(found.stderr)["code"] == "UNAVAILABLE"


async def reads(descriptor: int, wanted: Callable[[str], bool]) -> str:
    """Read what a program prints until it is as wanted; fails after WATCH_S."""
    loop, text = asyncio.get_running_loop(), ""
    try:
        async with asyncio.timeout(WATCH_S):
            while not wanted(text):
                more = await loop.run_in_executor(None, os.read, descriptor, 1 << 16)
                assert more, f"it ended after {text!r}"
                text += more.decode(errors="replace")
    except TimeoutError:
        raise AssertionError(f"it printed no more than {text!r}") from None
    return text


def documents(text: str) -> list[Any]:
    """Return the JSON documents in a text, one after the other; the last may not be whole yet."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while rest := text[at:].lstrip():
        try:
            document, length = decoder.raw_decode(rest)
        except json.JSONDecodeError:
            break
        found.append(document)
        at = len(text) - len(rest) + length
    return found


@pytest.mark.parametrize("shown", ["json", "table"])
async def test_transports_are_watched_live(discovery: DiscoveryProcess, shown: str) -> None:
    keys, target = Keys(), GrpcTarget(discovery.grpc, discovery.public)
    entry = keys.signed("a-b")
    transport = entry.entry.transport_id
    await target.register(keys["a"], [entry])
    await target.say(keys["a"], [(transport, True)])
    program = Path(discovery.executable()).parent / "skywire"
    command = [str(program), "discovery", "transports", "--watch", "--node", str(keys["a"].public)]
    command += ["--discovery", discovery.grpc, *(["--json"] if shown == "json" else [])]
    ours, theirs = os.openpty() if shown == "table" else os.pipe()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200", "LINES": "40"},
        start_new_session=True,
        # In the background of a shell Ctrl-C is ignored, and would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    try:
        if shown == "json":
            await reads(ours, lambda text: any(one[0]["is_up"] for one in documents(text)))
            await target.say(keys["a"], [(transport, False)])
            await reads(ours, lambda text: not documents(text)[-1][0]["is_up"] if documents(text) else False)
        else:
            await reads(ours, lambda text: str(transport) in text and "1 transport, 1 up" in text)
            await target.say(keys["a"], [(transport, False)])
            await reads(ours, lambda text: "1 transport, 0 up" in text)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, WATCH_S) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        await target.close()
