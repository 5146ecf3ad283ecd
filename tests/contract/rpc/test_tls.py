"""TLS by files: secrecy, certificates of callers, and key files that only their owner may read."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
from authority import Authority
from google.protobuf.wrappers_pb2 import StringValue
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.rpc.tls import CHECK_S, Watched, channel_credentials, server_credentials
from skywire_common.runtime import metrics
from skywire_common.runtime.config import TlsFiles

from .conftest import ACCESS, SERVICE, SIGNED, Tiny, add_tiny_to_server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def say(address: str, secret: SecretKey, tls: TlsFiles | None) -> str:
    channel = RpcChannel(address, secret.public, secret, tls=tls)
    try:
        answer = await channel.call(SIGNED, StringValue(value="hello"), StringValue, timeout=10)
        return answer.value
    finally:
        await channel.close()


@pytest.mark.parametrize("mutual", [False, True])
async def test_calls_over_tls(authority: Authority, secret: SecretKey, mutual: bool) -> None:
    certificate, key = authority.issue("server")
    server = RpcServer(secret, ACCESS, replays=MemoryReplays())
    server.add(add_tiny_to_server, Tiny(), SERVICE)
    files = TlsFiles(certificate=certificate, key=key, ca=authority.ca if mutual else None)
    address = await server.listen("127.0.0.1:0", files)
    plain = await server.listen("127.0.0.1:0")
    await server.start()
    client_certificate, client_key = authority.issue("client")
    full = TlsFiles(certificate=client_certificate, key=client_key, ca=authority.ca)
    assert await say(address, secret, full) == "hello"
    assert await say(plain, secret, None) == "hello"
    anonymous = TlsFiles(ca=authority.ca)
    if mutual:
        with pytest.raises(Failure) as caught:
            await say(address, secret, anonymous)
        assert caught.value.code is ErrorCode.UNAVAILABLE
    else:
        assert await say(address, secret, anonymous) == "hello"
    with pytest.raises(Failure):
        await say(address, secret, None)
    (authority.ca.parent / "other").mkdir()
    stranger = Authority(authority.ca.parent / "other")
    with pytest.raises(Failure) as caught:
        await say(address, secret, TlsFiles(ca=stranger.ca))
    assert caught.value.code is ErrorCode.UNAVAILABLE
    await server.stop(0)


def test_a_key_that_others_may_read_is_refused(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    key.chmod(0o640)
    files = TlsFiles(certificate=certificate, key=key)
    for credentials in (server_credentials, channel_credentials):
        with pytest.raises(LocalError, match="chmod 600"):
            credentials(files)  # type: ignore[operator]


def test_what_is_missing_is_said(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    with pytest.raises(LocalError, match="certificate and a key"):
        server_credentials(TlsFiles(certificate=certificate))
    with pytest.raises(LocalError, match="needs its key"):
        channel_credentials(TlsFiles(key=key))
    with pytest.raises(LocalError, match="nowhere"):
        channel_credentials(TlsFiles(ca=tmp_path / "nowhere"))


class Clock:
    """A clock that a test sets forward, so that the next look at the files is due."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        self.now += CHECK_S


def test_files_are_looked_at_no_more_than_once_a_second(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    clock = Clock()
    reads: list[int] = []
    watched = Watched(TlsFiles(certificate=certificate, key=key), lambda _: reads.append(1), clock)
    authority.issue("server")
    assert not watched.changed()
    clock.later()
    assert watched.changed()
    clock.later()
    assert not watched.changed()
    assert len(reads) == 2


async def test_a_listener_and_a_channel_take_new_certificates_without_a_restart(
    authority: Authority, secret: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_common.rpc.tls.CHECK_S", 0.0)
    certificate, key = authority.issue("server")
    client_certificate, client_key = authority.issue("client")
    server = RpcServer(secret, ACCESS, replays=MemoryReplays())
    server.add(add_tiny_to_server, Tiny(), SERVICE)
    address = await server.listen("127.0.0.1:0", TlsFiles(certificate=certificate, key=key, ca=authority.ca))
    await server.start()
    files = TlsFiles(certificate=client_certificate, key=client_key, ca=authority.ca)
    channel = RpcChannel(address, secret.public, secret, tls=files)

    async def call() -> str:
        answer = await channel.call(SIGNED, StringValue(value="hello"), StringValue, timeout=10)
        return answer.value

    assert await call() == "hello"
    # A whole new authority, written over the old one as a certificate's renewal does.
    (authority.ca.parent / "new").mkdir()
    new = Authority(authority.ca.parent / "new")
    for name, place in (("server", certificate), ("client", client_certificate)):
        fresh, fresh_key = new.issue(name)
        fresh_key.replace(place.with_suffix(".key"))
        fresh.replace(place)
    old_ca = authority.ca.read_bytes()
    new.ca.replace(authority.ca)
    # The channel that was open goes on, with a new connection; who believes the old authority is refused.
    assert await call() == "hello"
    old = authority.ca.with_name("old.pem")
    old.write_bytes(old_ca)
    with pytest.raises(Failure):
        await say(address, secret, TlsFiles(certificate=client_certificate, key=client_key, ca=old))
    await channel.close()
    await server.stop(0)


async def test_files_that_cannot_be_used_leave_the_former_in_force(
    authority: Authority, secret: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_common.rpc.tls.CHECK_S", 0.0)
    certificate, key = authority.issue("server")
    server = RpcServer(secret, ACCESS, replays=MemoryReplays())
    server.add(add_tiny_to_server, Tiny(), SERVICE)
    address = await server.listen("127.0.0.1:0", TlsFiles(certificate=certificate, key=key))
    await server.start()
    ca = TlsFiles(ca=authority.ca)
    for broken in (b"", b"no certificate", authority.issue("other")[0].read_bytes()):
        certificate.write_bytes(broken)
        assert await say(address, secret, ca) == "hello"
    certificate.unlink()
    assert await say(address, secret, ca) == "hello"
    await server.stop(0)


async def test_metrics_over_tls_with_certificates_that_change(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_common.rpc.tls.CHECK_S", 0.0)
    certificate, key = authority.issue("server")
    served = await metrics.serve(
        metrics.new_registry(), "127.0.0.1:0", TlsFiles(certificate=certificate, key=key, ca=authority.ca)
    )
    pair = authority.issue("client")

    async def scrape(client: tuple[Path, Path] | None) -> str:
        context = ssl.create_default_context(cafile=str(authority.ca))
        if client is not None:
            context.load_cert_chain(*client)
        async with httpx.AsyncClient(verify=context) as asking:
            return (await asking.get(f"https://{served.address}/metrics")).text

    assert "process_open_fds" in await scrape(pair)
    with pytest.raises(httpx.HTTPError):
        await scrape(None)
    (authority.ca.parent / "new").mkdir()
    new = Authority(authority.ca.parent / "new")
    fresh, fresh_key = new.issue("server")
    fresh_key.replace(key)
    fresh.replace(certificate)
    new.ca.replace(authority.ca)
    assert "process_open_fds" in await scrape(new.issue("client"))
    with pytest.raises(httpx.HTTPError):
        await scrape(pair)
    await served.close()
