"""The near end of ssh: a socket of the user's own, by which OpenSSH reaches the nodes it names.

program    KEY:PORT \\n                                then SSH
app        {"ok","error"} as JSON \\n                  then SSH
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

from skywire_app import Addr, App, Failure, IncompleteRead
from skywire_common.errors import DecodeError, LocalError

from skywire_apps import exit_wire as wire
from skywire_apps.exit_wire import Refused
from skywire_apps.listener import Dialler, Handler, listen
from skywire_apps.relay import explain, relay, reset
from skywire_apps.report import Report

MAX_LINE = 256
LINE_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 30.0


async def listen_for_ssh(name: tuple[str, str], place: Path, most: int, report: Report) -> None:
    """Serve until the node says stop; raises Failure if the node goes away, LocalError."""
    async with App.setup(*name) as app:
        dialler = Dialler(app)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            error = ""
            try:
                async with asyncio.timeout(LINE_TIMEOUT_S):
                    line = await reader.readline()
                if len(line) > MAX_LINE:
                    raise DecodeError("an address is KEY:PORT")
                async with dialler.stream(Addr.parse(line.decode("ascii", "replace").strip())) as stream:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        size = wire.head_size(await stream.readexactly(wire.LENGTH_SIZE))
                        answer = wire.decode_answer(await stream.readexactly(size))
                    if not answer.ok:
                        raise DecodeError(answer.error)
                    writer.write(_line(""))
                    await relay(stream, reader, writer, 0)
            except Failure as failure:
                error = explain(failure)
            except TimeoutError:
                error = "the other node was not reached in time"
            except (DecodeError, IncompleteRead, Refused, OSError, ValueError) as broken:
                error = str(broken)
            if error:
                report.line(error, error=error)
                await _tell(writer, error)

        ours = False

        def listening(_server: asyncio.Server) -> None:
            nonlocal ours
            ours = True
            report.line(f"ssh by {place}", ok=True, listening=str(place))

        try:
            await listen(app, lambda handler: unix_server(place, handler), handle, most, listening)
        finally:
            if ours:
                _remove(place)


def _remove(place: Path) -> None:
    """Take the socket away; asyncio leaves it until Python 3.13."""
    place.unlink(missing_ok=True)


def _line(error: str) -> bytes:
    return json.dumps({"ok": not error, "error": error}).encode() + b"\n"


async def _tell(writer: asyncio.StreamWriter, error: str) -> None:
    if writer.is_closing():
        return
    try:
        writer.write(_line(error))
        async with asyncio.timeout(LINE_TIMEOUT_S):
            await writer.drain()
    except (OSError, TimeoutError):
        reset(writer)
        return
    writer.close()


async def unix_server(place: Path, handler: Handler) -> asyncio.Server:
    """Listen on a socket that only its user may connect to; raises LocalError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            # Nobody there, or what a process left that was killed: asyncio replaces it.
            pass
        else:
            raise LocalError(f"another ssh-client listens on {place}: choose another place with --socket")
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(handler, str(place), backlog=64)
    except OSError as error:
        raise LocalError(f"cannot listen on {place}: {error}; choose another place with --socket") from error
    finally:
        os.umask(before)
