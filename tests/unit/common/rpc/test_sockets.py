"""Unix sockets: only their owner may use them, stale ones go, live ones stay."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.sockets import MAX_PATH, private_socket


def bind(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(os.fspath(path))
    return bound


def test_a_socket_comes_out_private_whatever_the_umask(short_path: Path) -> None:
    before = os.umask(0)
    try:
        with private_socket(short_path / "admin.sock"):
            bind(short_path / "admin.sock").close()
        assert os.umask(0) == 0, "the umask is as before"
    finally:
        os.umask(before)
    assert stat.S_IMODE((short_path / "admin.sock").stat().st_mode) == 0o600


def test_a_stale_socket_is_replaced(short_path: Path) -> None:
    path = short_path / "admin.sock"
    bind(path).close()
    with private_socket(path):
        assert not path.exists()


def test_a_live_socket_is_not_taken_over(short_path: Path) -> None:
    path = short_path / "admin.sock"
    with bind(path) as bound:
        bound.listen()
        with pytest.raises(Failure) as caught, private_socket(path):
            pass
        assert caught.value.code is ErrorCode.DUPLICATE_IDENTITY
        assert path.exists()


def test_a_file_that_is_no_socket_stays(short_path: Path) -> None:
    path = short_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(Failure) as caught, private_socket(path):
        pass
    assert caught.value.code is ErrorCode.ALREADY_EXISTS
    assert path.read_text() == "precious"


def test_a_symbolic_link_is_not_followed(short_path: Path) -> None:
    target = short_path / "elsewhere"
    target.write_text("precious")
    (short_path / "admin.sock").symlink_to(target)
    with pytest.raises(Failure), private_socket(short_path / "admin.sock"):
        pass
    assert target.read_text() == "precious"


def test_the_path_is_bounded_as_the_system_bounds_it(short_path: Path) -> None:
    name = "s" * (MAX_PATH - len(os.fsencode(short_path)) - 1)
    with private_socket(short_path / name):
        bind(short_path / name).close()
    with pytest.raises(Failure) as caught, private_socket(short_path / (name + "s")):
        pass
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_missing_directory_is_named(short_path: Path) -> None:
    with pytest.raises(Failure, match="nowhere"), private_socket(short_path / "nowhere" / "admin.sock"):
        pass
