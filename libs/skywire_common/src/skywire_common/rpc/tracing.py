"""Where a trace of a loop's set-up begins and goes on: at calls whose request has a set-up id, made and served.

Nobody traces unless a service was told to (runtime.otel gives a tracer then); until then this costs a call one look at
a variable, and no library of tracing is loaded. Packets are never traced.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata = tuple[tuple[str, str | bytes], ...]
_SETUP_ID = "setup_id"


class Tracer(Protocol):
    """Makes spans; a block that ends with an exception is a span that failed."""

    def calling(self, path: str, setup_id: bytes) -> AbstractContextManager[Metadata]:
        """Span a call that is made; yields what tells the peer of it."""

    def serving(self, path: str, setup_id: bytes, metadata: Metadata) -> AbstractContextManager[None]:
        """Span a call that is served, within the caller's trace if its metadata tells of one."""


_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """Trace from now on, or no more; of this process."""
    global _tracer
    _tracer = tracer


def calling(path: str, request: Message) -> AbstractContextManager[Metadata]:
    """Span a call that is made, if it belongs to a set-up and somebody traces."""
    setup_id = b"" if _tracer is None else getattr(request, _SETUP_ID, b"")
    return nullcontext(()) if _tracer is None or not setup_id else _tracer.calling(path, setup_id)


def serving(path: str, request: object, context: ServicerContext) -> AbstractContextManager[None]:
    """Span a call that is served, if it belongs to a set-up and somebody traces."""
    setup_id = b"" if _tracer is None else getattr(request, _SETUP_ID, b"")
    if _tracer is None or not setup_id:
        return nullcontext()
    return _tracer.serving(path, setup_id, tuple(context.invocation_metadata() or ()))
