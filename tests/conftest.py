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

# What these modules assert for tests is told as in a test: with the values of both sides.
pytest.register_assert_rewrite("system.profile_checks", "system.shipped_bed", "unit.discovery.store.written")


if os.environ.get("SKYWIRE_LOOP") == "uvloop":
    # As for services. Without it tests run on asyncio's own loop, and services that they start on uvloop.
    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Run all tests on uvloop."""
        import uvloop

        return {"uvloop": uvloop.new_event_loop}


# How long an example takes is the machine's affair; a test that hangs is ended by its time-out.
settings.register_profile("skywire", deadline=None)
settings.load_profile("skywire")

# Files of these folders take longest; those that wait for processes come first.
_FIRST = ("system", "sim", "vectors", "contract", "fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: in several workers, short files then fill the gaps and end at the same time."""
    here = Path(__file__).parent
    place = {here / folder: number for number, folder in enumerate(_FIRST)}
    items.sort(key=lambda item: min((place[folder] for folder in item.path.parents if folder in place), default=99))


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
