"""One NodeAdmin for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.node.admin.world import World


@pytest.fixture
async def world(short_path: Path) -> AsyncIterator[World]:
    made = World(short_path)
    await made.start()
    yield made
    await made.stop()
