"""A routing table with a clock, a draw and two transports, and what a set-up does with it."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.routing.table import RoutingTable

EPOCH = 1_800_000_000.0
OWNER = bytes(SecretKey.generate().public)
OTHER_OWNER = bytes(SecretKey.generate().public)
EDGE, OTHER_EDGE = (SecretKey.generate().public[:16] for _ in range(2))
EDGES = EDGE + OTHER_EDGE
REMOTE = Addr(SecretKey.generate().public, 7)


class World:
    """A table with two transports, a seeded draw and a clock that starts anywhere."""

    def __init__(self, **limits: float) -> None:
        seed = random.randrange(1 << 30)
        self.random = random.Random(seed)
        self.near, self.far = (UUID(int=self.random.getrandbits(128)) for _ in range(2))
        self.table = RoutingTable(lambda transport: transport in (self.near, self.far), **limits)  # type: ignore[arg-type]
        self.now = self.random.random() * 1e6
        self.epoch = EPOCH + self.random.random()

    def draw(self) -> int:
        return self.random.getrandbits(32)

    def setup_id(self) -> bytes:
        return self.random.randbytes(16)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.epoch += seconds

    def reserve(self, setup: bytes, count: int = 2, owner: bytes = OWNER) -> list[int]:
        return self.table.reserve(setup, count, self.now, self.draw, owner=owner)

    def install(self, setup: bytes, *rules: PlacedRule, owner: bytes = OWNER) -> None:
        self.table.install(setup, rules, self.now, self.epoch, owner=owner, edges=EDGES)

    def renew(self, setup: bytes, ids: list[int], expiry: int, edge: bytes | None = EDGE) -> list[int]:
        return self.table.renew(setup, ids, expiry, self.now, self.epoch, edge=edge)

    def forward(self, route_id: int, life: int = 7200) -> PlacedRule:
        return PlacedRule(route_id, ForwardRule(int(self.epoch) + life, self.draw() or 1, self.far), self.near)

    def app(self, route_id: int, response: int = 9) -> PlacedRule:
        return PlacedRule(route_id, AppRule(int(self.epoch) + 7200, response, REMOTE, 80), self.near)

    def made(self, count: int = 2) -> tuple[bytes, list[int]]:
        setup = self.setup_id()
        ids = self.reserve(setup, count)
        self.install(setup, *(self.forward(route_id) for route_id in ids))
        return setup, ids


def refused(code: ErrorCode) -> pytest.RaisesExc[Failure]:
    return pytest.RaisesExc(Failure, check=lambda failure: failure.code is code)
