"""Congestion on real processes: many loops over one link that is full share it evenly and send little twice."""

from __future__ import annotations

import asyncio

import pytest
from skywire_cli.testnet.plan import Link
from system.bed import MB, bed, until

pytestmark = [pytest.mark.system, pytest.mark.slow]  # ten seconds of a full link
LINE = (Link(0, 1), Link(1, 2))
LOOPS = 20
RATE = 6.0 * MB  # bytes a second of the link behind the node in the middle
WARM_UP = 20 * MB
MEASURED = 60 * MB  # of all loops together


async def test_twenty_loops_over_a_full_link_get_even_shares_and_resend_little() -> None:
    async with bed(3, LINE, setup_nodes=1, buffers=64 * 1024) as line:
        line.proxy(1, 2).there.rate = RATE
        transfers = [line.send(0, 2, MEASURED) for _ in range(LOOPS)]

        async def received() -> list[int]:
            said = await asyncio.gather(*(transfer.got() for transfer in transfers))
            return [one.get("received", 0) for one in said]

        async def warm() -> bool:
            now = await received()
            return min(now) > 0 and sum(now) >= WARM_UP

        await until(warm, 60, "every loop carries something")
        before = await received()

        async def measured() -> bool:
            return sum(await received()) - sum(before) >= MEASURED

        await until(measured, 60, "the link carries what it can")
        shares = [late - early for early, late in zip(before, await received(), strict=True)]
        assert min(shares) / max(shares) >= 0.8, sorted(shares)
        loops = await line.nodes[0].admin.loops()
        assert len(loops) == LOOPS
        resent, sent = sum(loop.bytes_resent for loop in loops), sum(loop.bytes_acknowledged for loop in loops)
        assert resent < 0.02 * sent, (resent, sent)
        assert not any(loop.reroutes for loop in loops)
        await line.stop_sending()
        line.proxy(1, 2).mend()
        await line.clean()
