"""What the discovery shall know of this node's transports: registered, up or down, the same as here.

Every change is sent at once; every RECONCILE_SECONDS the whole list is, in one call, and mends what was missed. All
words go one after the other, so that the last one holds. Nothing waits for it.
"""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import structlog
from skywire_common.convert.entries import MAX_ENTRIES
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
        """Send changes as they come and reconcile from time to time, until cancelled."""
        clock = asyncio.get_running_loop().time
        due, again = clock() + _about(RECONCILE_SECONDS), SOON
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            changed, self._changed = self._changed, {}
            try:
                if clock() >= due or not await self._send(list(changed)):
                    await self._reconcile()
                    due = clock() + _about(RECONCILE_SECONDS)
                again = SOON
            except Failure as failure:
                log.debug("transports not announced", reason=str(failure))
                self._changed.update(changed)
                due, again = clock() + _about(again), min(2 * again, RECONCILE_SECONDS)

    async def _send(self, ids: list[UUID]) -> bool:
        """Tell of a few; return whether the discovery knows all of them, else only reconciling helps."""
        await self._register([self._transports.all[key] for key in ids if key in self._transports.all])
        try:
            await self._discovery.update_statuses([(key, self._is_up(key)) for key in ids if self._known(key)])
        except Failure as failure:
            if failure.code is not ErrorCode.UNKNOWN_TRANSPORT:
                raise
            return False
        return True

    async def _register(self, transports: list[Transport]) -> None:
        """Register those that are not registered yet; what the discovery refuses is offered again later."""
        missing = [
            transport.signed
            for transport in transports
            if transport.entry.public and transport.signed is not None and not transport.registered
        ]
        while missing:
            try:
                done = await self._discovery.register_transports(missing)
            except Failure as failure:
                taken = self._without_refused(missing, failure)
                if len(taken) == len(missing):
                    raise
                log.info("transports not registered", count=len(missing) - len(taken), reason=str(failure))
                missing = taken
            else:
                for signed in done:
                    self._note_registered(signed)
                return

    def _without_refused(self, entries: list[SignedEntry], failure: Failure) -> list[SignedEntry]:
        """Return the entries that may be taken without the others, as the failure tells."""
        if not _refuses_entries(failure):
            return entries
        if failure.code is ErrorCode.CONFLICT:
            return [one for one in entries if one.entry.transport_id.bytes != failure.fields.transport_id]
        if failure.fields.hop_key == self._own:
            # It has room for fewer, and does not say for how many.
            return entries[: len(entries) // 2]
        return [one for one in entries if failure.fields.hop_key not in one.entry.edges]

    async def _reconcile(self) -> None:
        """Make the discovery's view this node's own: in one call, or in several if one cannot take the whole list."""
        own = {
            key: (transport.signed, self._is_up(key))
            for key, transport in self._transports.all.items()
            if transport.entry.public and transport.signed is not None
        }
        if len(own) <= MAX_ENTRIES:
            try:
                done = await self._discovery.reconcile_transports(list(own.values()))
            except Failure as failure:
                if not _refuses_entries(failure):
                    raise
            else:
                self.repaired += done.corrected
                for (signed, _), registered in zip(own.values(), done.registered, strict=True):
                    self._note_registered(signed._replace(registered=registered))
                return
        await self._reconcile_piecemeal()

    async def _reconcile_piecemeal(self) -> None:
        """Do the same in several calls: look what the discovery lists, and tell it only of what is wrong there."""
        listed = {one.entry.entry.transport_id: one for one in await self._discovery.list_transports(self._own)}
        for key, transport in self._transports.all.items():
            if transport.signed is not None and transport.registered and key not in listed:
                # The discovery lost it, for example to an old backup.
                transport.signed = transport.signed._replace(registered=0)
        lost = [transport for transport in self._transports.all.values() if not transport.registered]
        await self._register(lost)
        wrong = [(key, self._is_up(key)) for key, one in listed.items() if one.is_up != self._is_up(key)]
        wrong += [(one.entry.transport_id, self._is_up(one.entry.transport_id)) for one in lost if one.registered]
        if wrong:
            self.repaired += len(wrong)
            await self._discovery.update_statuses(wrong)

    def _note_registered(self, signed: SignedEntry) -> None:
        transport = self._transports.all.get(signed.entry.transport_id)
        if transport is not None:
            transport.signed = signed

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
            log.debug("could not say goodbye", reason=str(error))


def _about(seconds: float) -> float:
    return random.uniform(0.8, 1.2) * seconds


def _refuses_entries(failure: Failure) -> bool:
    """Say whether it is some of the entries that are refused: an edge has as many as it may, or an id is taken."""
    full = failure.code is ErrorCode.LIMIT_REACHED and failure.fields.limit == "transports_per_node"
    return full or failure.code is ErrorCode.CONFLICT
