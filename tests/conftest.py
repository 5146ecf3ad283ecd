"""What all tests share: stacks of all tasks at a time-out, short paths for sockets, keys."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from skywire_common.curve import SecretKey
from stacks import pytest_timeout_cancel_timer, pytest_timeout_set_timer

# gRPC reads it when it is first imported, by a test module; its own lines say nothing that a failure does not.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

__all__ = ["pytest_timeout_cancel_timer", "pytest_timeout_set_timer"]


if os.environ.get("SKYWIRE_LOOP") == "uvloop":
    # As for services. Without it tests run on asyncio's own loop, and services that they start on uvloop.
    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Run all tests on uvloop."""
        import uvloop

        return {"uvloop": uvloop.new_event_loop}


# How long an example takes is the machine's affair; a test that hangs is ended by its time-out.
settings.register_profile("skywire", deadline=None)
settings.load_profile("skywire")

_SYSTEM = Path(__file__).parent / "system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for processes: in several workers, those that compute then fill the gaps."""
    items.sort(key=lambda item: not item.path.is_relative_to(_SYSTEM))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="sw"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def secret() -> SecretKey:
    """A key of its own for each test."""
    return SecretKey.generate()
