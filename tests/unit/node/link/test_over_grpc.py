"""Links over gRPC: the same handshake, settlement, records and loops, with and without TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from authority import Authority
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.runtime.config import TlsFiles
from skywire_node.link import types
from skywire_node.link.over_grpc import OverGrpc, make


def plain() -> OverGrpc:
    return OverGrpc(None, None, "")


def secured(authority: Authority) -> OverGrpc:
    certificate, key = authority.issue("node")
    return OverGrpc(TlsFiles(certificate=certificate, key=key), TlsFiles(ca=authority.ca), "")


@pytest.mark.parametrize("tls", [False, True])
async def test_loops_pass_over_streams(tls: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with Net(3, seed=51, kind="grpc", make=lambda: secured(authority) if tls else plain()) as net:
        (transport,) = net.planes[0].transports.all.values()
        assert (transport.entry.kind, transport.state, transport.registered) == ("grpc", "UP", True)
        await net.there_and_back(0, 2, 3_000_000)
        await net.until(lambda: net.rules() == [0, 0, 0])


async def test_a_link_that_is_cut_comes_back() -> None:
    async with Net(2, seed=52, kind="grpc", make=plain) as net:
        (transport,) = net.planes[0].transports.all.values()
        assert transport.link is not None
        transport.link.abort("cut")
        await net.until(lambda: transport.state != "UP")
        await net.until(lambda: transport.state == "UP")


async def test_both_ends_that_dial_at_once_get_one_transport() -> None:
    async with Net(2, seed=53, kind="grpc", make=plain) as net:
        one, other = net.planes
        for _ in range(10):
            await asyncio.gather(
                one.transports.add(net.keys[1], public=False, kind="grpc"),
                other.transports.add(net.keys[0], public=False, kind="grpc"),
                return_exceptions=True,
            )

            def settled() -> bool:
                links = [
                    [t.link for t in plane.transports.all.values() if not t.entry.public and t.link is not None]
                    for plane in net.planes
                ]
                return [len(found) for found in links] == [1, 1]

            await net.until(settled)
            for plane in net.planes:
                for key, transport in list(plane.transports.all.items()):
                    if not transport.entry.public:
                        plane.transports.remove(key)
            await net.until(lambda: all(len(plane.router.links) == 1 for plane in net.planes))


async def test_nobody_there_another_service_and_a_wrong_key_are_told_apart() -> None:
    async with Net(2, seed=54, kind="grpc", make=plain) as net:
        transports = net.planes[0].transports
        with pytest.raises(Failure) as refused:
            await transports.add(SecretKey.generate().public, address="127.0.0.1:1", kind="grpc")
        assert refused.value.code is ErrorCode.UNAVAILABLE and "refused" in refused.value.cause
        with pytest.raises(Failure):
            await transports.add(SecretKey.generate().public, address=net.addresses[net.keys[1]], kind="grpc")
        assert len(net.planes[1].router.links) == 1


async def test_a_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    async with Net(1, seed=55, kind="grpc", make=lambda: secured(ours)) as net:
        dialler = OverGrpc(None, TlsFiles(ca=stranger.ca), "")
        net.planes[0].transports.types = {"grpc": dialler}
        with pytest.raises(Failure) as refused:
            await net.planes[0].transports.add(
                SecretKey.generate().public, address=net.addresses[net.keys[0]], kind="grpc"
            )
        assert refused.value.code is ErrorCode.UNAVAILABLE


def test_the_type_is_found_by_its_name_and_knows_its_options() -> None:
    assert types.find("grpc") is make
    options = types.TypeOptions(SecretKey.generate().public, None, None, {"server_name": "ingress.example"})
    assert isinstance(make(options), OverGrpc)
    with pytest.raises(LocalError, match="no option 'colour'"):
        make(options._replace(options={"colour": "red"}))
    with pytest.raises(LocalError, match="'carrier-pigeon'; there are: grpc, tcp"):
        types.find("carrier-pigeon")
