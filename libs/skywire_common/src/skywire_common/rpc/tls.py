"""TLS of listeners and channels: a matter of config, off by default. It gives secrecy; identity is the signature."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import grpc

from skywire_common.errors import LocalError

_OTHERS_MAY = 0o077


class TlsFiles(Protocol):
    """PEM files. A listener needs certificate and key, and with a CA it wants certificates of its callers.

    A channel needs a CA unless the system's will do, and certificate and key only if the listener asks for them.
    """

    @property
    def certificate(self) -> Path | None:
        """Certificate chain."""

    @property
    def key(self) -> Path | None:
        """Private key, mode 0600."""

    @property
    def ca(self) -> Path | None:
        """Certificates to trust."""


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Read the files of a listener; raises LocalError that says which is missing or readable by others."""
    if files.certificate is None or files.key is None:
        raise LocalError("a listener with TLS needs a certificate and a key")
    ca = None if files.ca is None else _read(files.ca)
    pair = (_read_key(files.key), _read(files.certificate))
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Read the files of a channel; raises LocalError that says which is missing or readable by others."""
    ca = None if files.ca is None else _read(files.ca)
    if files.certificate is None and files.key is None:
        return grpc.ssl_channel_credentials(ca)
    if files.certificate is None or files.key is None:
        raise LocalError("a channel with a certificate needs its key, and the other way round")
    return grpc.ssl_channel_credentials(ca, _read_key(files.key), _read(files.certificate))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from error


def _read_key(path: Path) -> bytes:
    content = _read(path)
    if path.stat().st_mode & _OTHERS_MAY:
        raise LocalError(f"{path} may be read by others: run chmod 600 {path}")
    return content
