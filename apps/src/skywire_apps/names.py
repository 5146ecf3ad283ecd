"""Names to addresses, and connections to them, on the exit's side.

Look-ups run in threads of their own, MAX_LOOKUPS at once, so that a name server that does not answer holds up neither
other names nor the end of the process.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from skywire_apps.access import Access, Address, literal, show_target
from skywire_apps.exit_wire import Code, Refused

MAX_LOOKUPS = 64
# Of one name; more are left out.
MAX_ADDRESSES = 8
LOOKUP_TIMEOUT_S = 10.0
# For each address of a name.
CONNECT_TIMEOUT_S = 8.0

_CODES = {
    errno.ECONNREFUSED: Code.REFUSED,
    errno.EHOSTUNREACH: Code.HOST_UNREACHABLE,
    errno.ENETUNREACH: Code.NET_UNREACHABLE,
    errno.ETIMEDOUT: Code.TIMEOUT,
    errno.EADDRNOTAVAIL: Code.NET_UNREACHABLE,
    errno.EAFNOSUPPORT: Code.UNSUPPORTED,
}


class Names:
    """Look names up and decide which of their addresses may be used."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host that may be connected to, in the system's order; raises Refused."""
        address = literal(host)
        found = [address] if address is not None else await self._look_up(host)
        allowed = [one for one in found if self._access.allows("" if address else host, one, port)]
        if not allowed:
            raise Refused(Code.DENIED, f"{show_target(host, port)} is not allowed by this exit")
        return allowed[:MAX_ADDRESSES]

    async def _look_up(self, host: str) -> list[Address]:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                await self._slots.acquire()
                # Its thread goes on when nobody waits for it any more, and keeps the slot as long.
                return await _in_thread(host, self._slots.release)
        except TimeoutError:
            raise Refused(Code.TIMEOUT, f"no name server answered for {host}") from None
        except (OSError, ValueError):
            raise Refused(Code.UNKNOWN_NAME, f"the exit does not know the name {host}") from None

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers; raises Refused with the last one's reason."""
        refused = Refused(Code.UNKNOWN_NAME, f"{host} has no address")
        for address in await self.resolve(host, port):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(str(address), port)
            except TimeoutError:
                refused = Refused(Code.TIMEOUT, f"{show_target(str(address), port)} does not answer")
            except OSError as error:
                code = _CODES.get(error.errno or 0, Code.FAILED)
                refused = Refused(code, f"{show_target(str(address), port)}: {error.strerror or error}")
        raise refused


async def _in_thread(host: str, ended: Callable[[], None]) -> list[Address]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Address]] = loop.create_future()

    def settle(found: list[Address], error: Exception | None) -> None:
        ended()
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(found)

    def work() -> None:
        found: list[Address] = []
        failed: Exception | None = None
        try:
            said = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            # A scope (%eth0) is nothing that a name on the network should choose.
            found = list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in said))
        except (OSError, ValueError) as error:
            failed = error
        # The app may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, failed)

    try:
        threading.Thread(target=work, name="look-up", daemon=True).start()
    except RuntimeError as error:  # the system gives no more threads
        ended()
        raise Refused(Code.FAILED, f"the exit cannot look up {host}: {error}") from error
    return await done
