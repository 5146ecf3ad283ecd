"""What the discovery shall know of this node's transports: registered, up or down, the same as here.

Every change is sent at once; what could not be sent is found by comparing both views every RECONCILE_SECONDS. Nothing
waits for it.
"""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import structlog
from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_node.control.discovery import Discovery
from skywire_node.link.transport import Transport
from skywire_node.link.transports import Transports

RECONCILE_SECONDS = 30.0
SOON = 1.0
LAST_SECONDS = 1.5

log = structlog.get_logger(part="discovery")


class LinkRegistry:
    """`transports.Registry` over the discovery."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    async def register(self, entries: list[SignedEntry], *, timeout: float = 5.0) -> list[SignedEntry]:
        """Register complete entries; return them with their time of registration. Raises Failure."""
        try:
            async with asyncio.timeout(timeout):
                return await self._discovery.register_transports(entries)
        except TimeoutError as error:
            raise Failure(ErrorCode.DEADLINE, "the discovery did not answer in time") from error

    async def find_link_address(self, node: PublicKey, kind: str) -> str:
        """Return where a node accepts links of this type; raises Failure."""
        record = await self._discovery.resolve(node)
        address = record.addresses.get(kind)
        if address is None:
            raise Failure(ErrorCode.NOT_FOUND, f"{node} takes no links of type {kind}")
        return address


class Announcer:
    """Keeps the discovery's view of this node's transports the same as its own."""

    def __init__(self, own: PublicKey, discovery: Discovery, transports: Transports) -> None:
        self.repaired = 0
        self._own = own
        self._discovery = discovery
        self._transports = transports
        self._changed: dict[UUID, None] = {}
        self._wake = asyncio.Event()

    def changed(self, transport: Transport) -> None:
        """Note that a transport went up or down."""
        if transport.entry.public:
            self._changed[transport.entry.transport_id] = None
            self._wake.set()

    async def run(self) -> None:
        """Send changes as they come, compare from time to time, until cancelled."""
        wait = RECONCILE_SECONDS
        while True:
            try:
                async with asyncio.timeout(random.uniform(0.8, 1.2) * wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            changed, self._changed = self._changed, {}
            try:
                if changed:
                    await self._send(list(changed))
                else:
                    await self._reconcile()
                wait = RECONCILE_SECONDS
            except Failure as failure:
                log.debug("transports not announced", why=str(failure))
                self._changed.update(changed)
                wait = SOON if wait == RECONCILE_SECONDS else min(wait * 2, RECONCILE_SECONDS)

    async def _send(self, ids: list[UUID]) -> None:
        await self._register([self._transports.all[key] for key in ids if key in self._transports.all])
        await self._discovery.update_statuses([(key, self._is_up(key)) for key in ids if self._known(key)])

    async def _register(self, transports: list[Transport]) -> None:
        missing = [
            transport.signed
            for transport in transports
            if transport.entry.public and transport.signed is not None and not transport.registered
        ]
        if not missing:
            return
        for signed in await self._discovery.register_transports(missing):
            transport = self._transports.all.get(signed.entry.transport_id)
            if transport is not None:
                transport.signed = signed

    async def _reconcile(self) -> None:
        await self._register(list(self._transports.all.values()))
        listed = {one.entry.entry.transport_id: one for one in await self._discovery.list_transports(self._own)}
        wrong = [(key, self._is_up(key)) for key, one in listed.items() if one.is_up != self._is_up(key)]
        for key, transport in list(self._transports.all.items()):
            if transport.registered and key not in listed and transport.signed is not None:
                # The discovery lost it, for example to an old backup.
                transport.signed = transport.signed._replace(registered=0)
        lost = [transport for transport in self._transports.all.values() if not transport.registered]
        await self._register(lost)
        wrong += [(one.entry.transport_id, self._is_up(one.entry.transport_id)) for one in lost if one.registered]
        if wrong:
            self.repaired += len(wrong)
            await self._discovery.update_statuses(wrong)

    def _known(self, key: UUID) -> bool:
        transport = self._transports.all.get(key)
        return transport is None or transport.registered

    def _is_up(self, key: UUID) -> bool:
        transport = self._transports.all.get(key)
        return transport is not None and transport.link is not None

    async def stop(self) -> None:
        """Say of every transport that it is down; a discovery that is away learns it by the lease."""
        up = [
            (transport.entry.transport_id, False) for transport in self._transports.all.values() if transport.registered
        ]
        if not up:
            return
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._discovery.update_statuses(up)
        except (Failure, TimeoutError) as error:
            log.debug("could not say goodbye", why=str(error))
