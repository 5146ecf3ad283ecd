"""NodeControl and SetupNode given any message at all: an answer, a Failure or a DecodeError, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from skywire.common.v1 import common_pb2
from skywire.node.v1 import node_control_pb2 as control_pb
from skywire.setup_node.v1 import setup_node_pb2 as setup_pb
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, Failure
from skywire_node.control import service as control_service
from skywire_node.control.service import NodeControlService
from skywire_node.routing.table import RoutingTable
from skywire_setup_node import service as setup_service
from skywire_setup_node.service import SetupNodeService

NODE, CALLER = SecretKey.generate().public, SecretKey.generate().public
sizes = st.sampled_from([0, 15, 16, 17, 29, 33, 49, 50])
raw = st.binary(max_size=60) | sizes.map(lambda size: b"\x02" * size) | st.sampled_from([bytes(NODE), bytes(CALLER)])
numbers = st.integers(0, 3) | st.integers(0, (1 << 32) - 1)


def messages(kind: type[Message], depth: int = 0) -> st.SearchStrategy[Message]:
    """Return any message of a kind, sizes that matter more often than others."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in kind.DESCRIPTOR.fields:
        one: st.SearchStrategy[Any]
        if field.message_type is not None:
            one = messages(field.message_type._concrete_class, depth + 1)
        elif field.type == field.TYPE_BYTES:
            one = raw
        elif field.type == field.TYPE_STRING:
            one = st.text(max_size=20)
        else:
            one = numbers
        fields[field.name] = st.lists(one, max_size=3) if field.is_repeated else one
    return st.fixed_dictionaries({}, optional=fields).map(lambda said: kind(**said))


class Nobody:
    """A door and an installer that nobody's request reaches in one piece."""

    async def confirm(self, offer: object) -> None:
        raise AssertionError("rules that were never installed cannot be confirmed")

    def closed(self, *_: object) -> None:
        pass

    def rules_removed(self, removed: object) -> None:
        pass

    async def make(self, request: Any) -> None:
        raise Failure(setup_service.ErrorCode.NO_ROUTE, "reached")

    async def renew(self, *_: object) -> tuple[int, ...]:
        return ()

    async def remove(self, *_: object) -> None:
        pass

    async def loop_closed(self, *_: object) -> None:
        pass

    def epoch(self) -> float:
        return 1.8e9

    def monotonic(self) -> float:
        return 1.0


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of its own, so that the one of other tests stays as it is."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


def _try(loop: asyncio.AbstractEventLoop, servicer: Any, module: Any, request: Message) -> None:
    method: Callable[[Message, object], Any] = getattr(servicer, type(request).__name__.removesuffix("Request"))
    with mock.patch.object(module, "caller", lambda _: CALLER):
        try:
            loop.run_until_complete(method(request, None))
        except (Failure, DecodeError):
            pass


CONTROL = [getattr(control_pb, f"{path.rpartition('/')[2]}Request") for path in control_service.ACCESS]
SETUP = [getattr(setup_pb, f"{path.rpartition('/')[2]}Request") for path in setup_service.ACCESS]


@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_node_control(loop: asyncio.AbstractEventLoop, kind: type[Message], data: st.DataObject) -> None:
    table = RoutingTable(lambda _: True)
    servicer = NodeControlService(NODE, table, Nobody())  # type: ignore[arg-type]
    _try(loop, servicer, control_service, data.draw(messages(kind)))
    assert not table.rules


@pytest.mark.parametrize("kind", SETUP, ids=lambda kind: kind.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_setup_node(loop: asyncio.AbstractEventLoop, kind: type[Message], data: st.DataObject) -> None:
    nobody: Any = Nobody()
    servicer = SetupNodeService(nobody, nobody, nobody)
    request = data.draw(messages(kind))
    if request.DESCRIPTOR.fields_by_name.get("initiator") and data.draw(st.booleans()):
        initiator = common_pb2.Addr(public_key=CALLER, port=data.draw(numbers))
        request.initiator.CopyFrom(initiator)  # type: ignore[attr-defined]
    _try(loop, servicer, setup_service, request)
