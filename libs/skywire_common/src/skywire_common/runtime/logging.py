"""JSON logs, one object a line, on standard error.

Nothing secret can get in: bytes are shown as their number, never their content (a public key as its hex digits),
values under names such as `secret` or `token` not at all, in records and containers too, and other objects by their
repr, which shows no secret either (curve.SecretKey).

The level changes while running: all loggers have one class, whose methods below the level do nothing, and a change
swaps those methods. So a filtered-out call on a bound logger costs a call of an empty function.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any, BinaryIO, cast

import orjson
import structlog
from pydantic import BaseModel
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from skywire_common.errors import DecodeError, SkywireError
from skywire_common.keys import Addr, PublicKey

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET_NAME = re.compile(r"secret|token|password|signature|payload|private", re.IGNORECASE)
_HIDDEN = "(hidden)"
_MAX_DEPTH = 6
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS

# The one class of all loggers.
_Logger = type("Logger", (structlog.BoundLoggerBase,), {})
_level = "info"


def configure(level: str, stream: BinaryIO | None = None) -> None:
    """Send all logs, those of the standard library included, to `stream` (standard error) from `level` up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _hide,
            _render,
        ],
        wrapper_class=_Logger,
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, _Unbreakable(stream or sys.stderr.buffer))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    # It tells of every migration that there is, wanted or not.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Log from `level` (debug, info, warning, error) up from now on; raises DecodeError for any other word."""
    global _level
    if level not in LEVELS:
        raise DecodeError(f"a log level is one of {', '.join(LEVELS)}, not {level[:40]!r}")
    for name, method in vars(structlog.make_filtering_bound_logger(LEVELS[level])).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)
    # The debug lines of libraries tell of their insides, and some of what they carry.
    logging.getLogger().setLevel(max(LEVELS[level], logging.INFO))
    _level = level


def current_level() -> str:
    """Return the level that is in force."""
    return _level


def get_logger(name: str, **values: Any) -> FilteringBoundLogger:
    """Return a logger whose lines all say `part=name` and the given values; keep it, one per object."""
    return cast(FilteringBoundLogger, structlog.get_logger(part=name, **values))


class _Unbreakable:
    """A stream that swallows what the system refuses: a full disk or a reader gone must not break who logs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        # Lines that were lost.
        self.lost = 0

    def write(self, line: bytes) -> None:
        try:
            self._stream.write(line)
        except OSError:
            self.lost += 1

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Passes what libraries log to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            get_logger(record.name).log(_known(record.levelno), record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 -- the standard library's way: a log line never breaks its caller
            self.handleError(record)


def _known(level: int) -> int:
    """Return the named level at or below any number that a library may use."""
    return max((known for known in (*LEVELS.values(), logging.CRITICAL) if known <= level), default=logging.DEBUG)


def _hide(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = _HIDDEN
        elif not isinstance(value, (str, int)):
            event[name] = _shown(value, _MAX_DEPTH)
    return event


def _shown(value: Any, depth: int) -> Any:
    """Return containers and records rebuilt with their secrets hidden, down to a depth."""
    if isinstance(value, BaseModel):
        value = dict(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Addr) or not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth == 0:
        return "(deeper)"
    if isinstance(value, Mapping):
        return {
            _name(key): _HIDDEN if _SECRET_NAME.search(_name(key)) else _shown(inner, depth - 1)
            for key, inner in value.items()
        }
    return [_shown(inner, depth - 1) for inner in value]


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain(key))


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=_plain, option=_OPTIONS)
    except TypeError:
        # Half a surrogate pair, an integer beyond 64 bits: rare, and no reason to lose the line.
        return json.dumps(event, default=_plain).encode()


def _plain(value: Any) -> Any:
    """Return what a value that JSON does not know is shown as."""
    if isinstance(value, (PublicKey, Addr, SkywireError, str)):
        return "".join(str(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"({len(value)} bytes)"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return repr(value)
