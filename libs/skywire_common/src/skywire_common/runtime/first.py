"""A service's first start: a key and a configuration of its own, in a directory that is its owner's alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.key_files import make_key, public_file, write_public
from skywire_common.keys import PublicKey
from skywire_common.private_files import write_private
from skywire_common.runtime.config import ConfigError, ServiceSettings, load

HOME_VARIABLE = "SKYWIRE_HOME"
DEFAULT_HOME = Path("~/.skywire")
KEY_FILE = "secret.key"
CONFIG_FILE = "config.json"
# Of the directory itself, and of those above it that are not there; the umask takes from both.
_DIRECTORY_MODE, _PARENTS_MODE = 0o700, 0o777

# The document of a first start, from the directory and the key file in it.
First = Callable[[Path, Path], dict[str, Any]]


class Made(NamedTuple):
    """What a first start made."""

    config: Path
    key: Path
    public_key: PublicKey


def directory_of(name: str, environment: Mapping[str, str]) -> Path:
    """Return where a service keeps its files if nobody says otherwise: ~/.skywire/node for skywire-node."""
    home = Path(environment.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser()
    return home.absolute() / name.removeprefix("skywire-")


def make(directory: Path, settings: type[ServiceSettings], first: First, changes: Sequence[str] = ()) -> Made:
    """Write a key, unless there is one, its public key beside it, and a configuration.

    `changes` are `KEY=VALUE` with a dotted key and a value in JSON, or plain text. Raises ConfigError, Failure
    (ALREADY_EXISTS: a configuration is never overwritten) or OSError, and then nothing is left that was not there.
    """
    directory = directory.absolute()
    config, key = directory / CONFIG_FILE, directory / KEY_FILE
    if config.exists():
        raise Failure(ErrorCode.ALREADY_EXISTS, f"{config} exists: a configuration is never overwritten")
    document = first(directory, key)
    for change in changes:
        _change(document, change)
    with ExitStack() as undo:
        for missing in reversed([place for place in (directory, *directory.parents) if not place.exists()]):
            missing.mkdir(mode=_DIRECTORY_MODE if missing == directory else _PARENTS_MODE, exist_ok=True)
            undo.callback(_remove_empty, missing)
        had_key = key.exists()
        if not had_key:
            make_key(key)
            undo.callback(key.unlink)
            undo.callback(public_file(key).unlink)
        write_private(config, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        undo.callback(config.unlink)
        load(settings, config)
        made = Made(config, key, SecretKey.load(key).public)
        if had_key:  # the public one beside it may be missing, or another's
            write_public(key, made.public_key)
        undo.pop_all()
    return made


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # another service of the same home has put something into it meanwhile
        directory.rmdir()


def _change(document: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError("a change is KEY=VALUE")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    *path, last = key.split(".")
    place = document
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key}: {part} holds no keys")
    place[last] = value
