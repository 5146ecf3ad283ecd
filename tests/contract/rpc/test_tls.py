"""TLS by files: secrecy, certificates of callers, and key files that only their owner may read."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.wrappers_pb2 import StringValue
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.rpc.tls import channel_credentials, server_credentials
from skywire_common.runtime.config import TlsFiles

from .conftest import ACCESS, SERVICE, SIGNED, Tiny, add_tiny_to_server

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """Makes certificates for 127.0.0.1 in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        certificate = self._build(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self._signed(certificate))

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(minutes=5))
            .not_valid_after(NOW + datetime.timedelta(hours=1))
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the paths of a certificate and its key, mode 0600."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate, secret = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(self._signed(self._build(subject, key).add_extension(address, False)))
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret


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
