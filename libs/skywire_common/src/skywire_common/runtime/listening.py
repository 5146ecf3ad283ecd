"""Addresses that cannot be listened on: one error for every listener, whoever opens it.

It says the address, why not, and what to do; the service's main adds which key of the configuration wants it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from pydantic import BaseModel

from skywire_common.errors import ErrorCode, Failure

_WHAT_TO_DO = {
    errno.EADDRINUSE: "end the process that has it (`ss -ltnp` shows it), or choose another port; 0 takes any free one",
    errno.EADDRNOTAVAIL: "it is no address of this machine (`ip address` shows those), or choose 0.0.0.0",
    errno.EACCES: "ports below 1024 are for those who may (CAP_NET_BIND_SERVICE), or choose a higher one",
}


class CannotListen(Failure):
    """CONFLICT: the system does not let us have `address`."""

    def __init__(self, address: str, error: OSError) -> None:
        # A name that leads nowhere has a number of its own kind, and text of its own.
        by_name = isinstance(error, socket.gaierror) or not error.errno
        why = error.strerror or str(error) if by_name else os.strerror(error.errno or 0)
        what = "" if by_name else _WHAT_TO_DO.get(error.errno or 0, "")
        super().__init__(ErrorCode.CONFLICT, f"cannot listen on {address}: {why}" + (f"; {what}" if what else ""))
        self.address = address


@contextmanager
def listening(address: str) -> Iterator[None]:
    """Within it an OSError is a CannotListen."""
    try:
        yield
    except OSError as error:
        raise CannotListen(address, error) from error


def check_free(address: str) -> None:
    """Raise CannotListen if "host:port" cannot be bound now; for those who do not say why (gRPC)."""
    host, _, port = address.rpartition(":")
    with listening(address):
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            # As the listener itself: an address that only its last connections still hold is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)


def reason(failure: Failure, settings: BaseModel) -> str:
    """Return a failed start's one line; of an address that was not to be had with the keys that want it."""
    if not isinstance(failure, CannotListen):
        return str(failure)
    keys = " and ".join(_keys(settings, failure.address))
    return f"{failure.code.value}: {keys}: {failure.cause}" if keys else str(failure)


def _keys(model: BaseModel, address: str, prefix: str = "") -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        for place, inner in enumerate(value) if isinstance(value, tuple) else ():
            if isinstance(inner, BaseModel):
                yield from _keys(inner, address, f"{prefix}{name}.{place}.")
        if isinstance(value, BaseModel):
            yield from _keys(value, address, f"{prefix}{name}.")
        elif value == address and ("interfaces" in prefix or name == "listen"):
            yield f"{prefix}{name}"
