"""`skywire testnet inflict`: addresses are read before anything is done."""

from __future__ import annotations

import click
import pytest
from skywire_cli.testnet.failing.command import cable

LISTEN, TARGET = (param.type for param in cable.params[:2])


def test_a_cable_may_take_any_port_but_leads_to_one() -> None:
    assert LISTEN.convert("[::1]:0", None, None) == ("[::1]", 0)
    assert TARGET.convert("node2:7777", None, None) == ("node2", 7777)


@pytest.mark.parametrize("kind", [LISTEN, TARGET])
@pytest.mark.parametrize("text", ["", ":0", ":1", "h", "h:", "h:65536", "h:" + "9" * 5_000])
def test_what_is_no_address_is_refused(kind: click.ParamType, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)
