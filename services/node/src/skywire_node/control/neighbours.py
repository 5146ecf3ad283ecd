"""Whom the node links with: nodes of its last run and of its configuration, nodes that it trusts, nodes that it met.

What its owner removes stays removed, over restarts and whatever the configuration says, until it is added again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence

import structlog
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey

from skywire_node.config import TransportSettings
from skywire_node.control.discovery import Discovery
from skywire_node.link.transport import Transport
from skywire_node.link.transports import Spawn, Transports
from skywire_node.state.store import KeptTransport, Store

# A trusted key becomes a node's when that node first registers.
TRUSTED_SECONDS = 60.0
FIRST_ASKED_AGAIN, LAST_ASKED_AGAIN = 1.0, 30.0

log = structlog.get_logger(part="transports")


class Neighbours:
    """Has transports made, in the background. `wanted` are those of the configuration, `trusted` its trusted keys."""

    def __init__(
        self,
        own: PublicKey,
        transports: Transports,
        discovery: Discovery,
        store: Store,
        spawn: Spawn,
        *,
        wanted: Sequence[TransportSettings],
        trusted: Collection[PublicKey],
    ) -> None:
        self._own = own
        self._transports = transports
        self._discovery = discovery
        self._store = store
        self._spawn = spawn
        self._wanted = wanted
        self._trusted = trusted

    async def bring_back(self) -> None:
        """Begin to dial what the last run and the configuration want."""
        transports = self._transports
        for kept in await self._store.load_transports():
            if not kept.wanted:
                transports.note_removed(kept.transport_id)
            elif kept.kind in transports.types:
                transports.keep(kept.remote, public=kept.public, address=kept.address, kind=kept.kind)
            else:
                log.warning("transport not dialled: this node has its type no more", kind=kept.kind)
        for one in self._wanted:
            if one.public_key == self._own:
                continue  # one list for all nodes of a network names this one too
            if not transports.is_removed(one.public_key, one.type, one.public):
                transports.keep(one.public_key, public=one.public, address=one.address or "", kind=one.type)

    async def meet_again(self) -> None:
        """Dial once whom the discovery lists, as soon as it answers: those that dial this node may by now wait a minute
        between tries.
        """
        most = FIRST_ASKED_AGAIN
        while True:
            try:
                listed = await self._discovery.list_transports(self._own)
            except Failure as failure:
                log.debug("neighbours not asked for yet", reason=str(failure))
                await asyncio.sleep(random.uniform(most / 2, most))
                most = min(2 * most, LAST_ASKED_AGAIN)
            else:
                break
        await self._transports.meet([one.entry.entry for one in listed])

    async def link_with_trusted(self) -> None:
        """Link with every trusted key that is a node, whenever it becomes known, until cancelled."""
        while True:
            for key in self._trusted:
                if key != self._own and not any(one.remote == key for one in self._transports.all.values()):
                    await self._link_with(key)
            await asyncio.sleep(TRUSTED_SECONDS)

    async def _link_with(self, key: PublicKey) -> None:
        try:
            record = await self._discovery.resolve(key)
        except Failure:
            return  # a setup node, which takes no links, or the discovery is away, which is said elsewhere
        for kind in self._transports.types:
            if kind in record.addresses and not self._transports.is_removed(key, kind, public=True):
                self._transports.keep(key, kind=kind)
                return

    def keep(self, transport: Transport, wanted: bool) -> None:
        """Remember over restarts that the owner wants a transport, or wants it no more."""
        self._spawn(self._write(transport, wanted), "keep transport")

    async def _write(self, transport: Transport, wanted: bool) -> None:
        entry = transport.entry
        kept = KeptTransport(
            entry.transport_id,
            transport.remote,
            entry.kind,
            entry.public,
            transport.address,
            wanted,
            transport.signed.to_json() if transport.signed is not None else b"",
            *transport.totals(),
        )
        try:
            await self._store.keep_transports([kept])
        except Failure as failure:
            log.error("transport not kept over a restart", transport=str(entry.transport_id), reason=str(failure))
