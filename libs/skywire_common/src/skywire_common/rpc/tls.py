"""TLS of listeners and channels: a matter of config, off by default. It gives secrecy; identity is the signature.

Files that change are read anew without a restart: a listener looks when somebody connects, a channel when it is used,
neither more than once in CHECK_S. Files that cannot be used (half replaced, expired rights) are told in the log once,
and what was read before stays in force.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc

from skywire_common.errors import LocalError
from skywire_common.private_files import check_private, mark_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CHECK_S = 1.0

T = TypeVar("T")


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


class Watched(Generic[T]):
    """What was read from TLS files, read anew when one of them is another file than before."""

    def __init__(self, files: TlsFiles, read: Callable[[TlsFiles], T], clock: Callable[[], float]) -> None:
        """Read the files; raises LocalError."""
        self._files = files
        self._read = read
        self._clock = clock
        self._seen = _marks(files)
        self._looked = clock()
        self.current = read(files)

    def changed(self) -> bool:
        """Look, at most once in CHECK_S; say whether `current` is new."""
        now = self._clock()
        if now - self._looked < CHECK_S:
            return False
        self._looked = now
        marks = _marks(self._files)
        if marks == self._seen:
            return False
        # Also if they cannot be read: it is told once, and tried again when they change again.
        self._seen = marks
        try:
            self.current = self._read(self._files)
        except (LocalError, ssl.SSLError) as error:
            _log().error("TLS files changed and cannot be used; the former stay in force", reason=str(error))
            return False
        _log().info("TLS files read anew", certificate=str(self._files.certificate or ""), ca=str(self._files.ca or ""))
        return True


def _marks(files: TlsFiles) -> tuple[object, ...]:
    return tuple(None if path is None else mark_of(path) for path in (files.certificate, files.key, files.ca))


def server_credentials(files: TlsFiles, clock: Callable[[], float] = time.monotonic) -> grpc.ServerCredentials:
    """Read the files of a listener, now and when they change; raises LocalError: one is missing, others may read it."""
    watched = Watched(files, _configuration, clock)

    def newer() -> Any:  # the stubs do not know that None means: the same as before
        return watched.current if watched.changed() else None

    # A new handshake gets what is in force then; whether callers need certificates is decided now, once.
    required = files.ca is not None
    return grpc.dynamic_ssl_server_credentials(watched.current, newer, require_client_authentication=required)


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read what a listener shows and whom it believes, and try it: gRPC would only fail at the next handshake."""
    server_context(files)
    certificate, key = _pair(files)
    ca = None if files.ca is None else _read(files.ca)
    return grpc.ssl_server_certificate_configuration([(_read_key(key), _read(certificate))], root_certificates=ca)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context of an HTTP listener; raises LocalError, also for a key that is not the certificate's."""
    certificate, key = _pair(files)
    _read_key(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if files.ca is not None:
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        named = error.filename or f"{certificate} and {key}"
        raise LocalError(f"{named}: {error.strerror or error}") from error
    return context


def watched_context(files: TlsFiles, clock: Callable[[], float] = time.monotonic) -> ssl.SSLContext:
    """Return a context for HTTP listeners whose new connections are served by the files as they are then."""
    watched = Watched(files, server_context, clock)
    outer = watched.current

    def chosen(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        watched.changed()
        if connection.context is not watched.current:
            connection.context = watched.current

    outer.sni_callback = chosen
    return outer


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Read the files of a channel; raises LocalError that says which is missing or readable by others."""
    ca = None if files.ca is None else _read(files.ca)
    if files.certificate is None and files.key is None:
        return grpc.ssl_channel_credentials(ca)
    if files.certificate is None or files.key is None:
        raise LocalError("a channel with a certificate needs its key, and the other way round")
    return grpc.ssl_channel_credentials(ca, _read_key(files.key), _read(files.certificate))


def _pair(files: TlsFiles) -> tuple[Path, Path]:
    if files.certificate is None or files.key is None:
        raise LocalError("a listener with TLS needs a certificate and a key")
    return files.certificate, files.key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from error


def _read_key(path: Path) -> bytes:
    content = _read(path)
    check_private(path)
    return content


def _log() -> FilteringBoundLogger:
    """Return the logger, which is loaded now: a command line never says this."""
    import structlog

    bound: FilteringBoundLogger = structlog.get_logger(part="tls")
    return bound
