"""Addresses that cannot be had: one error for all listeners, by the configuration's keys, and nothing beside it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.runtime import metrics
from skywire_common.runtime.config import ListenAddress, Section
from skywire_common.runtime.listening import CannotListen, check_free, listening, reason


class Interfaces(Section):
    link: ListenAddress
    control: ListenAddress
    other: ListenAddress = "127.0.0.1:0"


class Settings(Section):
    interfaces: Interfaces
    peer: str = ""


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def test_address_that_is_taken_says_what_to_do(taken: str) -> None:
    with pytest.raises(CannotListen) as caught:
        check_free(taken)
    assert caught.value.code is ErrorCode.CONFLICT
    assert f"cannot listen on {taken}: Address already in use; " in caught.value.cause
    assert "ss -ltnp" in caught.value.cause


@pytest.mark.parametrize(
    ("address", "said"),
    [("192.0.2.1:0", "no address of this machine"), ("no.such.host.invalid:0", "cannot listen on no.such.host")],
)
def test_address_of_elsewhere_is_told(address: str, said: str) -> None:
    with pytest.raises(CannotListen, match=said):
        check_free(address)


def test_address_that_is_free_passes(taken: str) -> None:
    for address in ("127.0.0.1:0", "localhost:0", "0.0.0.0:0", "[::1]:0"):
        check_free(address)


def test_reason_names_every_key_that_wants_the_address(taken: str) -> None:
    failure = CannotListen(taken, OSError(98, "whatever"))
    settings = Settings(interfaces=Interfaces(link=taken, control=taken), peer=taken)
    assert reason(failure, settings).startswith(
        f"CONFLICT: interfaces.link and interfaces.control: cannot listen on {taken}"
    )
    assert reason(failure, Settings(interfaces=Interfaces(link="127.0.0.1:1", control="127.0.0.1:2"))) == str(failure)
    other = Failure(ErrorCode.UNAVAILABLE, "away")
    assert reason(other, settings) == "UNAVAILABLE: away"


async def test_every_listener_raises_it_and_nobody_prints(taken: str, capfd: pytest.CaptureFixture[str]) -> None:
    server = RpcServer(SecretKey.generate(), {}, replays=MemoryReplays())
    with pytest.raises(CannotListen):
        await server.listen(taken)
    with pytest.raises(CannotListen):
        await metrics.serve(metrics.new_registry(), taken)
    with pytest.raises(CannotListen), listening(taken):
        raise OSError(98, "in use")
    await server.stop(0)
    assert capfd.readouterr().err == ""
