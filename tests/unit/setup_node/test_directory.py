"""How many channels to nodes a setup node has open where nobody said a number."""

from __future__ import annotations

from typing import Any

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from skywire_setup_node.directory import CONTROL, MAX_CHANNELS, Directory, _Open

NOBODY: Any = None  # the discovery is not asked


class Elsewhere(Directory):
    """Knows without a discovery where everybody is."""

    async def _resolve(self, node: PublicKey) -> tuple[str, str]:
        return CONTROL, "127.0.0.1:9"


def key(number: int) -> PublicKey:
    return PublicKey(b"\x02" + number.to_bytes(32))


async def test_channels_are_bounded_by_default(secret: SecretKey) -> None:
    directory = Elsewhere(NOBODY, secret)
    async with directory.channel(key(0)) as channel:
        # As if calls to so many were under way: that many channels take a second.
        for number in range(1, MAX_CHANNELS):
            directory._open[key(number)] = entry = _Open(channel)
            entry.calls = 1
        with pytest.raises(Failure, match="channels to nodes are all in use") as refused:
            async with directory.channel(key(MAX_CHANNELS)):
                pytest.fail("one too many")
        assert refused.value.fields.limit == "channels"
    async with directory.channel(key(MAX_CHANNELS)):
        assert len(directory) == MAX_CHANNELS
        assert not directory.knows(key(0)), "nobody used it any more"
    for number in range(1, MAX_CHANNELS):
        del directory._open[key(number)]
    await directory.close()
