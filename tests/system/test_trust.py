"""Who is not to be trusted, on real processes (F8, F9, F15, F16): refused, and loops that are there lose no byte."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from skywire.node.v1 import node_control_pb2 as node_pb
from skywire.setup_node.v1 import setup_node_pb2 as setup_pb
from skywire_cli.testnet import config
from skywire_cli.testnet.plan import Link
from skywire_cli.testnet.process import Service
from skywire_common.convert.routes import addr_to
from skywire_common.convert.rules import placed_rules_to
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.loops.greeting import Greetings
from system.bed import MB, PORT, Bed, Transfer, bed

pytestmark = pytest.mark.system
LINE = (Link(0, 1), Link(1, 2))
EXPIRY = 600
HOSTILE = Path(__file__).parent.parent / "apps" / "hostile_node.py"
TAMPERED = 8 * MB
Call = Callable[[Message], Awaitable[Any]]


@pytest.fixture(scope="module")
async def line() -> AsyncIterator[Bed]:
    async with bed(3, LINE, setup_nodes=1, proxied=False) as made:
        yield made


@pytest.fixture
async def busy(line: Bed) -> AsyncIterator[Transfer]:
    """A loop from the first node to the last, in use; afterwards it is whole and ends with nothing left."""
    transfer = line.pulse(0, 2, 1_000, 0.02)
    await transfer.until_got(1_000)
    yield transfer
    before = (await transfer.got())["received"]
    await transfer.until_got(before + 20_000)
    await transfer.enough()
    await transfer.arrived()
    await line.clean()


@pytest.fixture
async def caller(line: Bed) -> AsyncIterator[Callable[..., Call]]:
    """Returns calls to the control side of a node, or to a setup node, signed with any key for any audience."""
    async with AsyncExitStack() as stack:

        def of(service: Service, secret: SecretKey, audience: str = "") -> Call:
            setup_node = service in line.net.setup_nodes
            package, messages = (
                ("setup_node.v1.SetupNode", setup_pb) if setup_node else ("node.v1.NodeControl", node_pb)
            )
            address = service.interfaces["grpc" if setup_node else "control"]
            channel = RpcChannel(address, PublicKey.parse(audience or service.public_key), secret)
            stack.push_async_callback(channel.close)

            async def call(request: Message) -> Any:
                method = type(request).__name__.removesuffix("Request")
                answer = getattr(messages, f"{method}Response")
                return await channel.call(f"/skywire.{package}/{method}", request, answer, timeout=10)

            return call

        yield of


def secret_of(service: Service) -> SecretKey:
    return SecretKey.load(service.directory / config.KEY_FILE)


async def refused(call: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value.code


async def held(line: Bed) -> list[tuple[int, int, int]]:
    said = [await node.admin.summary() for node in line.nodes]
    return [(one.rules, one.reservations, one.loops) for one in said]


async def test_f8_untrusted_keys_and_other_audiences_change_nothing(
    line: Bed, busy: Transfer, caller: Callable[..., Call]
) -> None:
    before = await held(line)
    middle, setup_node = line.nodes[1], line.net.setup_nodes[0]
    rules = await middle.admin.rules()
    removal = node_pb.RemoveRulesRequest(
        setup_id=rules[0].setup_id, route_ids=[rule.route_id for rule in rules], edge=bytes(16)
    )
    reserving = node_pb.ReserveRouteIdsRequest(setup_id=secrets.token_bytes(16), count=2)
    # A neighbour is as little trusted as anybody else.
    for key in (SecretKey.generate(), secret_of(line.nodes[0])):
        for request in (removal, reserving):
            assert await refused(caller(middle, key)(request)) is ErrorCode.PERMISSION_DENIED
    elsewhere = caller(middle, secret_of(setup_node), audience=line.nodes[2].public_key)
    assert await refused(elsewhere(reserving)) is ErrorCode.UNAUTHENTICATED
    assert await held(line) == before


async def test_f8_a_hop_that_knows_set_up_and_route_ids_can_do_nothing_with_them(
    line: Bed, busy: Transfer, caller: Callable[..., Call]
) -> None:
    before = await held(line)
    known = [
        setup_pb.NodeRules(public_key=node.key, route_ids=[rule.route_id for rule in await node.admin.rules()])
        for node in line.nodes
    ]
    loop = await line.loop()
    asks = caller(line.net.setup_nodes[0], secret_of(line.nodes[1]))
    named: dict[str, Any] = {"setup_id": loop.loop_id, "rules": known, "edge_salt": secrets.token_bytes(16)}
    assert await refused(asks(setup_pb.RenewLoopRequest(**named))) is ErrorCode.PERMISSION_DENIED
    closing = setup_pb.CloseLoopRequest(**named, loop_id=loop.loop_id, tell=line.nodes[2].key, reason="so there")
    closed = await asks(closing)
    assert {*closed.unreached} == {node.key for node in line.nodes}
    assert await held(line) == before


async def test_f9_rules_that_must_not_be_are_refused_whole(
    line: Bed, busy: Transfer, caller: Callable[..., Call]
) -> None:
    middle, setup_node = line.nodes[1], line.net.setup_nodes[0]
    live = await middle.admin.rules()
    transport = UUID(bytes=live[0].from_transport)
    asks = caller(middle, secret_of(setup_node))
    setup_id = secrets.token_bytes(16)
    given = await asks(node_pb.ReserveRouteIdsRequest(setup_id=setup_id, count=2))
    first, second = given.route_ids
    rule = ForwardRule(int(time.time()) + EXPIRY, 7, transport)
    good = PlacedRule(first, rule, transport)
    wrong = {
        ErrorCode.ALREADY_EXISTS: PlacedRule(live[0].route_id, rule, transport),
        ErrorCode.UNKNOWN_TRANSPORT: PlacedRule(second, rule._replace(next_transport=UUID(int=7)), transport),
        ErrorCode.CONFLICT: PlacedRule(second ^ 1, rule, transport),
    }
    for code, bad in wrong.items():
        adding = node_pb.AddRulesRequest(
            setup_id=setup_id, rules=placed_rules_to([good, bad]), edges=[bytes(16), bytes(16)]
        )
        assert await refused(asks(adding)) is code
        assert {one.route_id for one in await middle.admin.rules()} == {one.route_id for one in live}
    await asks(node_pb.RemoveRulesRequest(setup_id=setup_id))


async def test_f16_a_first_message_that_comes_again_makes_no_loop(
    line: Bed, busy: Transfer, caller: Callable[..., Call]
) -> None:
    target, setup_node = line.nodes[2], line.net.setup_nodes[0]
    transport = UUID(bytes=(await line.nodes[1].admin.transports(public_keys=[target.key]))[0].transport_id)
    asks = caller(target, secret_of(setup_node))
    dialler, setup_id = SecretKey.generate(), secrets.token_bytes(16)
    near, far = Addr(dialler.public, 50_000), Addr(target.key, PORT)
    message = Greetings(dialler, secrets.token_bytes).begin(setup_id, near, far, 5).write()

    async def offer(setup_id: bytes) -> None:
        given = await asks(node_pb.ReserveRouteIdsRequest(setup_id=setup_id, count=2))
        leaving, arriving = given.route_ids
        expiry = int(time.time()) + EXPIRY
        rules = [
            PlacedRule(leaving, ForwardRule(expiry, 7, transport), None),
            PlacedRule(arriving, AppRule(expiry, leaving, near, PORT), transport),
        ]
        await asks(
            node_pb.AddRulesRequest(setup_id=setup_id, rules=placed_rules_to(rules), edges=[bytes(16), bytes(16)])
        )
        try:
            answer = await asks(
                node_pb.ConfirmLoopRequest(
                    setup_id=setup_id,
                    initiator=addr_to(near),
                    responder=addr_to(far),
                    initiator_epoch=5,
                    noise_message=message,
                    forward_id=leaving,
                    app_id=arriving,
                    edge_salt=bytes(16),
                )
            )
            assert len(answer.noise_message) == len(message)
            assert (await target.admin.summary()).loops == 2
        finally:
            await asks(node_pb.LoopClosedRequest(loop_id=setup_id, app_id=arriving))
            await asks(node_pb.RemoveRulesRequest(setup_id=setup_id))

    await offer(setup_id)
    before = await held(line)
    for again, code in ((setup_id, ErrorCode.CONFLICT), (secrets.token_bytes(16), ErrorCode.REPLAYED)):
        assert await refused(offer(again)) is code
        assert await held(line) == before


@pytest.mark.slow
async def test_f15_a_hostile_node_in_the_middle_can_slow_a_loop_down_and_nothing_else(line: Bed) -> None:
    hostile = line.nodes[1]
    await hostile.stop()
    shutil.copy(HOSTILE, hostile.directory / HOSTILE.name)
    honest, hostile._module = hostile._module, HOSTILE.stem
    try:
        await hostile.start()
        await line.net.connected()
        transfer = line.send(0, 2, TAMPERED)
        await transfer.arrived(TAMPERED)
        dropped = (await line.nodes[2].admin.summary()).packets_dropped
        assert {"bad_tag", "replayed", "malformed"} <= dropped.keys(), dropped
        await line.clean()
    finally:
        await hostile.stop()
        hostile._module = honest
        await hostile.start()
        await line.net.connected()
