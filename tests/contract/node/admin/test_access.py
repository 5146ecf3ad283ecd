"""Who gets in: the owner by the socket alone, and over TCP whoever brings the token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from authority import Authority
from contract.node.admin.world import OWN, World, rules_of
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_common.errors import ErrorCode, Failure
from skywire_common.private_files import write_private
from skywire_common.rpc import token
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime.config import TlsFiles
from skywire_node.config import RemoteAdmin
from skywire_node.owner.admin import ACCESS
from skywire_node.owner.remote import serve_remote


async def test_only_the_owner_gets_in_and_only_by_the_socket(world: World) -> None:
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    channel = RpcChannel(world.tcp, OWN.public, OWN)
    for path in ACCESS:
        request = getattr(pb, f"{path.rpartition('/')[2]}Request")()
        with pytest.raises(Failure) as caught:
            await world.call(request, channel)
        assert caught.value.code is ErrorCode.PERMISSION_DENIED
    await channel.close()


async def test_a_changed_token_counts_without_a_restart(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_common.rpc.token.CHECK_S", 0.0)
    file, first, second = tmp_path / "token", token.make(), token.make()
    write_private(file, first)
    server, address = await serve_remote(OWN, world.service, RemoteAdmin(listen="127.0.0.1:0", token_file=file))

    async def gets_in(held: str) -> bool:
        channel = RpcChannel(address, None, None, token=held)
        try:
            await world.call(pb.GetSummaryRequest(), channel)
        except Failure as failure:
            assert failure.code is ErrorCode.PERMISSION_DENIED
            return False
        finally:
            await channel.close()
        return True

    try:
        assert await gets_in(first)
        file.unlink()
        assert not await gets_in(first) and not await gets_in("")
        write_private(file, second)
        assert await gets_in(second) and not await gets_in(first)
        file.chmod(0o644)
        assert not await gets_in(second)
        file.chmod(0o600)
        assert await gets_in(second)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("tls", [False, True])
async def test_over_tcp_only_who_brings_the_token_gets_in(world: World, tmp_path: Path, tls: bool) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("node")
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(token.make() + "\n")
    listener = TlsFiles(certificate=certificate, key=key) if tls else None
    trusts = TlsFiles(ca=authority.ca) if tls else None
    server, address = await serve_remote(
        OWN, world.service, RemoteAdmin(listen="127.0.0.1:0", token_file=file, tls=listener)
    )
    held = token.load(file)
    try:
        right = RpcChannel(address, None, None, token=held, tls=trusts)
        assert (await world.call(pb.GetSummaryRequest(), right)).build.public_key == OWN.public
        assert await rules_of(right) == []
        await right.close()
        for wrong in ("", held[:-1], held + "x", held.swapcase(), "Bearer " + held):
            channel = RpcChannel(address, OWN.public, OWN, token=wrong, tls=trusts)
            for path in ACCESS:
                with pytest.raises(Failure) as caught:
                    await world.call(getattr(pb, f"{path.rpartition('/')[2]}Request")(), channel)
                assert caught.value.code is ErrorCode.PERMISSION_DENIED
                assert held not in str(caught.value)
            await channel.close()
        # The token opens no other door: neither the unix socket's server over TCP, nor plain text where TLS is.
        for place, files in ((world.tcp, None), *([(address, None)] if tls else [])):
            channel = RpcChannel(place, None, None, token=held, tls=files)
            with pytest.raises(Failure):
                await world.call(pb.GetSummaryRequest(), channel)
            await channel.close()
    finally:
        await server.stop(0)
