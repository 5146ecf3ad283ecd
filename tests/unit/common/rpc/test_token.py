"""Tokens: what a file may hold, and when a call bears one."""

from __future__ import annotations

from pathlib import Path

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import LocalError
from skywire_common.rpc import token
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer


def write(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_bytes(text)
    return path


def test_a_token_is_read_as_it_was_made(tmp_path: Path) -> None:
    made = token.make()
    assert token.load(write(tmp_path / "token", made.encode() + b"\n")) == made
    assert token.make() != made and len(made) >= token.MIN_TOKEN


@pytest.mark.parametrize("text", [b"", b"x" * 31, b"x" * 257, b"two words" * 9, b"\xff" * 40, b"a" * 40 + b"\n" + b"b"])
def test_anything_else_is_refused_and_not_repeated(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(LocalError, match="printable characters") as caught:
        token.load(write(tmp_path / "token", text))
    assert not text or text.decode("latin-1") not in str(caught.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="chmod 600"):
        token.load(write(tmp_path / "token", token.make().encode(), 0o644))
    with pytest.raises(OSError, match="No such file"):
        token.load(tmp_path / "nowhere")


def test_a_call_bears_the_token_once_and_whole() -> None:
    held = token.make()
    ((_, value),) = token.metadata(held)
    assert token.bears([value], held) and token.bears([value.encode()], held)
    for values in ([], [value, value], [held], [value + " "], [value[:-1]], ["Bearer "], ["é" * 10]):
        assert not token.bears(values, held)


def test_its_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    now = 0.0
    file, made = tmp_path / "token", token.make()
    first = token.load(write(file, token.make().encode()))
    held = token.TokenFile(file, lambda: now)
    write(file, made.encode())
    assert held.current() == first
    now += token.CHECK_S
    assert held.current() == made
    file.unlink()
    assert held.current() == made
    now += token.CHECK_S
    assert held.current() == ""
    assert not token.bears(["Bearer "], "")


def test_a_server_that_wants_a_token_has_one() -> None:
    with pytest.raises(LocalError, match="no token"):
        RpcServer(SecretKey.generate(), {"/a.B/C": Access.TOKEN}, replays=MemoryReplays())
