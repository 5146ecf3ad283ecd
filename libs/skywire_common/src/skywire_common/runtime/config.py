"""Configuration: a JSON file, overruled by the environment (`SKYWIRE_LOG_LEVEL`, nested with `__`).

Every mistake is told at once, each by its key, and an unknown key with the nearest one that exists. Values are never
repeated in an error: one of them may be a secret that stands under the wrong name.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, LocalError, SkywireError
from skywire_common.keys import MAX_PORT, PublicKey, parse_host_port
from skywire_common.named_keys import FROM_FILE, key_text
from skywire_common.rpc import sockets

ENVIRONMENT_PREFIX = "SKYWIRE_"
MAX_FILE_SIZE = 1 << 20
MAX_GRACE_S = 600.0
# Of replicas of one peer.
MAX_ADDRESSES = 16
# How like a wrong key a right one is that may have been meant, from 0 to 1.
_NEAR = 0.5
S = TypeVar("S", bound="ServiceSettings")


class ConfigError(SkywireError):
    """The configuration is wrong; the process ends with exit code 2."""


def _key(value: object) -> PublicKey:
    if isinstance(value, PublicKey):
        return value
    if not isinstance(value, str):
        raise ValueError("a public key is a string of hex digits")  # noqa: TRY004 -- pydantic takes ValueError
    try:
        return PublicKey.parse(key_text(value))
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    except DecodeError as error:
        raise ValueError(f"a public key is 66 lower-case hex digits, or {FROM_FILE}PATH of a file with them") from error


def _key_file(path: Path) -> Path:
    """Load the key once, so that a bad file is an error of the configuration."""
    try:
        SecretKey.load(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (LocalError, DecodeError) as error:
        raise ValueError(f"{path}: {error}" if isinstance(error, DecodeError) else str(error)) from error
    return path


def _host_port(value: str) -> str:
    try:
        parse_host_port(value)
    except DecodeError:
        raise ValueError(f"an address is HOST:PORT, and a port is a number from 1 to {MAX_PORT}") from None
    return value


def _host_ports(value: str) -> str:
    parts = value.split(",")
    for part in parts:
        _host_port(part)
    if len(parts) > 1:
        try:
            versions = {ipaddress.ip_address(part.rpartition(":")[0].strip("[]")).version for part in parts}
        except ValueError as error:
            raise ValueError("several addresses are IP addresses; one name may stand for several itself") from error
        if len(versions) > 1 or len(parts) > MAX_ADDRESSES:
            raise ValueError(f"several addresses are at most {MAX_ADDRESSES}, all of IPv4 or all of IPv6")
    return value


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if host and port == "0":
        return value
    return _host_port(value)


def _socket_path(value: Path) -> Path:
    if len(os.fsencode(value)) > sockets.MAX_PATH:
        raise ValueError(f"the path of a unix socket has at most {sockets.MAX_PATH} bytes: choose a shorter one")
    what = _what(value)
    if what in (_A_DIRECTORY, _A_FILE):
        raise ValueError(f"{value} is {what}, not a socket")
    _directory(value.parent)
    return value


def _directory(value: Path) -> Path:
    """Check that a directory is one or can be made: nothing else has its name or that of one above it."""
    for path in (value, *value.parents):
        what = _what(path)
        if what == _A_DIRECTORY:
            break
        if what:
            raise ValueError(f"{path} is {what}, not a directory")
    return value


_A_DIRECTORY, _A_FILE = "a directory", "a file"


def _what(path: Path) -> str:
    """Say what a path is; empty if it is nothing, or this process may not look."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else ""
    except OSError:
        return ""
    if stat.S_ISDIR(mode):
        return _A_DIRECTORY
    return _A_FILE if stat.S_ISREG(mode) else "a socket or device"


# A public key: 66 hex digits, or "file:PATH" of a file that holds them.
HexKey = Annotated[PublicKey, PlainValidator(_key), PlainSerializer(str)]
# A file with a secret key of 64 hex digits, mode 0600; read it with SecretKey.load.
KeyFile = Annotated[Path, AfterValidator(_key_file)]
# "host:port" of a peer.
Address = Annotated[str, AfterValidator(_host_port)]
# "host:port" of a service, or of several replicas of it, "ip:port,ip:port": each is asked in turn, none that is away.
Addresses = Annotated[str, AfterValidator(_host_ports)]
# "host:port" to listen on; port 0 takes any free one.
ListenAddress = Annotated[str, AfterValidator(_listen)]
# Where to listen for the owner.
SocketPath = Annotated[Path, AfterValidator(_socket_path)]
# A directory that is there or will be made.
Directory = Annotated[Path, AfterValidator(_directory)]
LogLevel = Literal["debug", "info", "warning", "error"]


def setting(meaning: str, *, unit: str = "", **rest: Any) -> Any:
    """Make a field that says what it means and in which unit; `rest` as for pydantic's Field."""
    return Field(description=meaning, json_schema_extra={"unit": unit} if unit else None, **rest)


class Section(BaseModel):
    """A part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsFiles(Section):
    """PEM files of a listener or a channel; see rpc.tls."""

    certificate: Path | None = setting("PEM file of the certificate", default=None)
    key: Path | None = setting("PEM file of its key", default=None)
    ca: Path | None = setting("PEM file of the authorities that are believed", default=None)


class Peer(Section):
    """A service that is called: where it is, and the key that it must have."""

    address: Addresses = setting("where it is; of replicas IP:PORT,IP:PORT, asked in turn, none that is away")
    public_key: HexKey = setting("the key that it must have")
    tls: TlsFiles | None = setting("TLS of the calls to it; {}: the system's authorities are believed", default=None)
    server_name: str = setting("the name in its certificate, where it is not that of the address", default="")


_PLAIN = "http://"


class Open(NamedTuple):
    """A listener or channel that TLS does not cover: the configuration's key and its address."""

    key: str
    address: str


class ServiceSettings(BaseSettings):
    """What every service's configuration has."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    log_level: LogLevel = setting("log from this level up", default="info")
    grace_s: float = setting("from SIGTERM to the end", unit="s", default=10.0, ge=0, le=MAX_GRACE_S)
    # Calls are signed all the same; what is lost is secrecy. Links between nodes have Noise and are not meant.
    plain_text: bool = setting("gRPC and HTTP may go beyond this machine without TLS", default=False)
    tracing: str = setting(
        "where spans of loops' set-ups go: an OpenTelemetry collector, http(s)://host:4317; wants the extra `otel`",
        default="",
        pattern=r"^(https?://[^/\s]+:[0-9]+)?$",
    )

    def without_tls(self) -> list[Open]:
        """Name the listeners and channels that have no TLS; a service adds its own."""
        return []

    def exposed(self) -> list[Open]:
        """Return those of them that lead beyond this machine."""
        shown = self.without_tls()
        if self.tracing.startswith(_PLAIN):
            shown.append(Open("tracing", self.tracing.removeprefix(_PLAIN)))
        return [one for one in shown if not all(map(is_loopback, one.address.split(",")))]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment overrule the file, which comes in by the constructor."""
        return env_settings, init_settings


def is_loopback(address: str) -> bool:
    """Say whether "host:port" never leaves this machine: by number or as localhost; other names may lead anywhere."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(settings: type[S], path: Path | None) -> S:
    """Read the file, if there is one, and the environment; raises ConfigError that lists every mistake."""
    loaded = _loaded(settings, path)
    exposed = loaded.exposed()
    if exposed and not loaded.plain_text:
        named = ", ".join(f"{one.key} ({one.address})" for one in exposed)
        raise ConfigError(
            f"{named}: beyond this machine it wants TLS; give certificates, or set plain_text to true if all that"
            " hear it may"
        )
    return loaded


def _loaded(settings: type[S], path: Path | None) -> S:
    document = {} if path is None else read(path)
    source = "the environment" if path is None else str(path)
    # Such names are the constructor's own options, not keys.
    private = sorted(name for name in document if name.startswith("_"))
    if private:
        raise ConfigError(f"{source}: {_unknown(settings, (private[0],))}")
    try:
        return settings(**document)
    except SettingsError as error:
        raise ConfigError(f"the environment: {error}") from error
    except ValidationError as error:
        mistakes = [
            _explain(settings, mistake["type"], mistake["loc"], mistake["msg"])
            for mistake in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ConfigError(f"{source}: " + "; ".join(mistakes)) from None


def read(path: Path) -> dict[str, Any]:
    """Read a file as JSON, unchecked; raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError(f"{path}: a configuration has at most {MAX_FILE_SIZE} bytes")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a configuration is a JSON object")
    return document


def _explain(settings: type[BaseModel], kind: str, where: tuple[int | str, ...], message: str) -> str:
    if kind == "extra_forbidden":
        return _unknown(settings, where)
    name = _dotted(where)
    if kind == "missing":
        return f"{name} is missing"
    said = message.removeprefix("Value error, ")
    # What contradicts itself as a whole is at no key.
    return f"{name}: {said}" if name else said


def _unknown(settings: type[BaseModel], where: tuple[int | str, ...]) -> str:
    nearest = _nearest(settings, where)
    return f"no key {_dotted(where)}" + (f"; the nearest is {nearest}" if nearest else "")


def _nearest(settings: type[BaseModel], where: tuple[int | str, ...]) -> str:
    """Return the key that was meant: one of the same place by its name, one of elsewhere by its dotted name, or ""."""
    wrong = str(where[-1])
    known = {name: name for name in _names(settings, where[:-1])}
    for dotted in _dotted_names(settings):
        known.setdefault(dotted, dotted.rpartition(".")[2])
    # A name of the same place comes first, so that of two that are as near it is taken.
    likeness = {name: _likeness(wrong, last) for name, last in known.items()}
    best = max(likeness, key=lambda name: likeness[name], default="")
    return best if likeness.get(best, 0) >= _NEAR else ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _dotted_names(settings: type[BaseModel], before: str = "") -> Iterator[str]:
    """Name every key; those of a list's items or of a mapping's values as if it were one."""
    for name, field in settings.model_fields.items():
        yield f"{before}{name}"
        for model in _models(field.annotation):
            yield from _dotted_names(model, f"{before}{name}.")


def _dotted(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where)


def _names(settings: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Return the keys that exist at a place of the document; list indexes and keys of mappings lead no deeper."""
    models: list[type[BaseModel]] = [settings]
    for part in where:
        fields = [model.model_fields[part] for model in models if isinstance(part, str) and part in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models(field.annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
