"""Links that come to nothing: more than may be pending, and a dial that the other end's dial made needless."""

from __future__ import annotations

import asyncio

from planes import Net
from skywire_node.link.transports import MAX_PENDING


async def test_connections_over_the_bound_are_closed_at_once() -> None:
    async with Net(1, seed=71) as net:
        transports = net.planes[0].transports
        host, _, port = net.addresses[net.keys[0]].rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_PENDING + 5)]
        await net.until(lambda: transports.refused == 5)
        ended: list[bytes | ConnectionResetError] = []
        for reader, writer in idle[MAX_PENDING:]:
            try:
                ended.append(await reader.read())
            except ConnectionResetError as error:
                ended.append(error)
            writer.close()
        assert len(ended) == 5 and not any(isinstance(end, bytes) and end for end in ended)
        assert not any(reader.at_eof() for reader, _ in idle[:MAX_PENDING])
        for _, writer in idle[:MAX_PENDING]:
            writer.close()


async def test_a_transport_that_both_ends_dial_at_once_is_up_at_both_and_says_so() -> None:
    async with Net(2, seed=72) as net:
        one, other = net.planes
        for _ in range(20):
            await asyncio.gather(
                one.transports.add(net.keys[1], public=False),
                other.transports.add(net.keys[0], public=False),
                return_exceptions=True,
            )

            def private(plane: object) -> list[object]:
                return [seen for seen in plane.transports.all.values() if not seen.entry.public]  # type: ignore[attr-defined]

            def agreed() -> bool:
                (mine,), (theirs,) = private(one), private(other)
                return mine.state == theirs.state == "UP" and mine.dialled is not theirs.dialled

            await net.until(agreed)
            await asyncio.sleep(0)
            for plane in (one, other):
                for seen in private(plane):
                    plane.transports.remove(seen.entry.transport_id)
            await net.until(lambda: not private(one) and not private(other))
