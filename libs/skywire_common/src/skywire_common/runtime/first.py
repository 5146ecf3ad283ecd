"""A service's first start: a key and a configuration of its own, in a directory that is its owner's alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from skywire_common.curve import SecretKey
from skywire_common.errors import SkywireError
from skywire_common.keys import PublicKey
from skywire_common.runtime.config import ConfigError, ServiceSettings, load

HOME_VARIABLE = "SKYWIRE_HOME"
DEFAULT_HOME = Path("~/.skywire")
KEY_FILE = "secret.key"
CONFIG_FILE = "config.json"
_DIRECTORY_MODE, _FILE_MODE = 0o700, 0o600

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
    """Write a key, unless there is one, and a configuration; raises ConfigError, and then leaves no configuration.

    `changes` are `KEY=VALUE` with a dotted key and a value in JSON, or plain text.
    """
    directory = directory.absolute()
    config, key = directory / CONFIG_FILE, directory / KEY_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
        if config.exists():
            raise ConfigError(f"{config} exists: a configuration is never overwritten")
        if not key.exists():
            _write(key, SecretKey.generate().to_bytes().hex() + "\n")
        document = first(directory, key)
        for change in changes:
            _change(document, change)
        _write(config, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        try:
            load(settings, config)
        except ConfigError:
            config.unlink()
            raise
        return Made(config, key, SecretKey.load(key).public)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from error
    except SkywireError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error


def _write(path: Path, text: str) -> None:
    # Created with its mode: there is no moment at which others may open it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


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
