"""What the conformance kit asks of an app at once, and what an app may ask of it: an app that is played here."""

from __future__ import annotations

from typing import Any

import pytest
from skywire_cli.conformance import good
from skywire_cli.conformance.peer import FAR, Broken, Peer
from skywire_common import appframes
from skywire_common.appframes import FrameBuffer, FrameType, Init
from skywire_common.keys import Addr

DIAL = appframes.encode_addr(Addr(FAR, 1))


class Played:
    """An app with the largest window; it takes every loop, and answers Sends only when the kit waits."""

    exit = None

    def __init__(self) -> None:
        self._said = bytearray(appframes.frame(FrameType.INIT, 0, appframes.encode_init(Init("a", "1", window=10_000))))
        self._heard = FrameBuffer()
        self._sends: list[int] = []
        self.most = 0

    def write(self, data: bytes | bytearray) -> int:
        self._heard.space()[: len(data)] = data
        self._heard.filled(len(data))
        while (frame := self._heard.next()) is not None:
            if frame.type == FrameType.CONFIRM_LOOP:
                self._said += appframes.SUCCESS[frame.id]
            elif frame.type == FrameType.SEND:
                self._sends.append(frame.id)
                self.most = max(self.most, len(self._sends))
        return len(data)

    def read(self, most: int) -> bytes | None:
        said, self._said = bytes(self._said), bytearray()
        return said or None

    def wait(self, deadline: float, **_: object) -> None:
        for number in self._sends:
            self._said += appframes.SUCCESS[number]
        self._sends.clear()
        if not self._said:
            raise TimeoutError


@pytest.mark.parametrize("case", [good.window, good.no_answers])
def test_sends_at_once_are_bounded_whatever_window_an_app_says(case: Any) -> None:
    app: Any = Played()
    assert case(Peer(app, patience=60.0, quiet=0.0))
    assert app.most == good.MOST_AT_ONCE


def test_what_an_app_asks_and_has_no_answer_to_is_bounded_by_its_ids() -> None:
    app: Any = Played()
    peer = Peer(app, patience=60.0, quiet=0.0)
    peer.start()
    for number in range(appframes.REQUEST_IDS):
        peer.take(appframes.frame(FrameType.CREATE_LOOP, number, DIAL))
    assert len(peer.heard) == appframes.REQUEST_IDS
    for number, says in ((7, "used id 7"), (appframes.NO_ID, "ids end at 254")):
        with pytest.raises(Broken, match=says):
            peer.take(appframes.frame(FrameType.CREATE_LOOP, number, DIAL))
    assert len(peer.heard) == appframes.REQUEST_IDS
