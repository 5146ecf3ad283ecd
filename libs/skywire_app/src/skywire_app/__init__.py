"""What a Skywire app imports: `App` for asyncio here, the same names for threads in `skywire_app.blocking`.

    from skywire_app import App

    async with App.setup("echo", "1.0") as app:
        async for stream in app:
            ...

Names are loaded when they are first used, so that a blocking app never loads asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skywire_common.appframes import LoopAddr
    from skywire_common.errors import ErrorCode, Failure
    from skywire_common.keys import Addr, PublicKey

    from skywire_app.app import App, Stream
    from skywire_app.session import IncompleteRead, Packet

__all__ = ["Addr", "App", "ErrorCode", "Failure", "IncompleteRead", "LoopAddr", "Packet", "PublicKey", "Stream"]

_HOMES = {
    "App": "skywire_app.app",
    "Stream": "skywire_app.app",
    "IncompleteRead": "skywire_app.session",
    "Packet": "skywire_app.session",
    "LoopAddr": "skywire_common.appframes",
    "ErrorCode": "skywire_common.errors",
    "Failure": "skywire_common.errors",
    "Addr": "skywire_common.keys",
    "PublicKey": "skywire_common.keys",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"skywire_app has no {name}")
    return getattr(import_module(home), name)
