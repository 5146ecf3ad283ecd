"""Keys and ports as text, on a command line and in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError
from skywire_common.keys import MAX_KEY_FILE, MAX_PORT, MAX_PORT_DIGITS, Addr, PublicKey, check_port, parse_port
from skywire_common.named_keys import key_text

KEY = PublicKey(b"\x02" + bytes(range(32)))


def test_a_port_is_bounded() -> None:
    assert check_port(MAX_PORT) == Addr.parse(f"{KEY}:{MAX_PORT}").port == MAX_PORT
    for number in (0, -1, MAX_PORT + 1):
        with pytest.raises(DecodeError, match="1 to 65535"):
            check_port(number)
        with pytest.raises(DecodeError):
            Addr.parse(f"{KEY}:{number}")


def test_the_digits_of_a_port_are_bounded() -> None:
    assert parse_port("80".zfill(MAX_PORT_DIGITS)) == 80
    for digits in (MAX_PORT_DIGITS + 1, 10_000):
        for text in ("9" * digits, "80".zfill(digits)):
            with pytest.raises(DecodeError, match="1 to 65535"):
                parse_port(text)
            with pytest.raises(DecodeError):
                Addr.parse(f"{KEY}:{text}")


SECRET = SecretKey.generate()


def public_in(file: Path) -> PublicKey:
    text = key_text(f"file:{file}")
    assert len(text) <= MAX_KEY_FILE + 1
    return PublicKey.parse(text)


def secret_in(file: Path) -> PublicKey:
    try:
        found = SecretKey.load(file).public
    except DecodeError:
        assert not SecretKey.is_in(file)
        raise
    assert SecretKey.is_in(file)
    return found


@pytest.mark.parametrize(
    ("read", "text"),
    [(public_in, str(SECRET.public)), (secret_in, SECRET.to_bytes().hex())],
    ids=["public", "secret"],
)
def test_what_is_read_of_a_key_file_is_bounded(read: Callable[[Path], PublicKey], text: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(text.ljust(MAX_KEY_FILE, "\n"))
    assert read(file) == SECRET.public
    # It would be a key, were no more of it read, or all.
    for size in (MAX_KEY_FILE + 1, 1 << 20):
        file.write_text(text.ljust(size, "\n"))
        with pytest.raises(DecodeError, match="hex digits"):
            read(file)
