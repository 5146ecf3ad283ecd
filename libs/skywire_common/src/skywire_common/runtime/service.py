"""The main of every service: configuration, logs, signals, readiness, drain, exit code.

exit code   0  asked to end, and ended in order
            1  something broke: start failed, a task died, a closer failed
            2  the command line or the configuration is wrong
            8  --new, and there is a configuration already
            9  a first configuration cannot be written: the disk, a permission
            128 + signal  the signal came a second time
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

import orjson
from structlog.typing import FilteringBoundLogger

from skywire_common.drafts import in_place_of
from skywire_common.errors import Failure
from skywire_common.key_files import public_file
from skywire_common.keys import PublicKey
from skywire_common.runtime import describe, listening, logging
from skywire_common.runtime.config import ConfigError, ServiceSettings, load, read
from skywire_common.runtime.first import CONFIG_FILE, First, directory_of, make
from skywire_common.runtime.scope import Scope

__all__ = ["Ready", "Scope", "main"]

EXIT_OK, EXIT_BROKEN, EXIT_CONFIG = 0, 1, 2
# The command `skywire` ends with the same numbers.
EXIT_EXISTS, EXIT_MACHINE = 8, 9
LOOP_VARIABLE = "SKYWIRE_LOOP"
# After the grace: what neither ends nor can be cancelled (a thread in a driver) does not keep the process.
_LAST_RESORT_S = 1.0

S = TypeVar("S", bound=ServiceSettings)
Start = Callable[[S, Scope], Awaitable["Ready"]]


@dataclass(frozen=True)
class Ready:
    """What a service is once it serves: its key, and the bound address of each interface by name."""

    public_key: PublicKey
    interfaces: dict[str, str] = field(default_factory=dict)


def main(
    name: str, settings: type[S], start: Start[S], first: First | None = None, *, begins: bool = False
) -> NoReturn:
    """Run a service until it is told to end, and exit; `name` is the command and the distribution.

    `start` opens everything, defers its closing to the scope, and returns once the service serves. `first` is the
    document that --new writes; a service that `begins` makes it for itself if it is given no configuration.
    """
    arguments = _parse(name, sys.argv[1:])
    # gRPC writes its own lines between ours unless told not to.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        if arguments.fields or arguments.new is not None:
            _print(_asked(settings, first, arguments))
            sys.exit(EXIT_OK)
        if arguments.config is None and first is not None and begins:
            arguments.config = _own_config(name, settings, first)
        loaded = load(settings, arguments.config)
        if arguments.show:
            document = {} if arguments.config is None else read(arguments.config)
            _print([row._asdict() for row in describe.shown(loaded, document, os.environ)])
        if arguments.check or arguments.show:
            sys.exit(EXIT_OK)
        factory = _loop_factory(os.environ.get(LOOP_VARIABLE, ""))
    except ConfigError as error:
        _refuse(name, str(error), EXIT_CONFIG)
    except Failure as error:
        _refuse(name, error.cause, EXIT_EXISTS)
    except OSError as error:
        _refuse(name, f"{error.filename}: {error.strerror}", EXIT_MACHINE)
    logging.configure(loaded.log_level)
    log = logging.get_logger(name)
    # What a start loads and makes stays: looking for garbage in it costs a tenth of the start.
    gc.disable()
    with asyncio.Runner(loop_factory=factory) as runner:
        code = runner.run(_serve(name, loaded, start, arguments.ready_file, log))
    sys.exit(code)


def _parse(name: str, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON; the environment (SKYWIRE_...) overrules it")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written once ready: pid, key, interfaces")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit: 0, or 2 and why")
    parser.add_argument("--show", action="store_true", help="print the configuration in force as JSON and exit")
    parser.add_argument("--fields", action="store_true", help="print every key that there is as JSON and exit")
    parser.add_argument("--new", type=Path, metavar="DIR", help="make a key and a configuration there and exit")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of --new")
    parser.add_argument("--version", action="version", version=f"{name} {_version(name)}")
    return parser.parse_args(argv)


def _asked(settings: type[ServiceSettings], first: First | None, arguments: argparse.Namespace) -> object:
    """Answer --fields or --new."""
    if arguments.fields:
        return [row._asdict() for row in describe.described(settings)]
    if first is None:
        raise ConfigError("this service has no configuration to begin with")
    made = make(arguments.new, settings, first, arguments.set)
    return {
        "config": str(made.config),
        "key": str(made.key),
        "public_key_file": str(public_file(made.key)),
        "public_key": str(made.public_key),
    }


def _refuse(name: str, reason: str, code: int) -> NoReturn:
    sys.stderr.write(f"{name}: {reason}\n")
    sys.exit(code)


def _print(document: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.flush()


def _own_config(name: str, settings: type[ServiceSettings], first: First) -> Path | None:
    """Return the service's own file, made if it has none; None if the environment alone says everything."""
    try:
        load(settings, None)
    except ConfigError:
        directory = directory_of(name, os.environ)
    else:
        return None
    config = directory / CONFIG_FILE
    if not config.exists():
        made = make(directory, settings, first)
        sys.stderr.write(
            f"{name}: no --config, so this is a first start: made the key {made.key} and the configuration"
            f" {made.config}; the public key is {made.public_key}\n"
        )
    return config


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version("skywire-common")


def _loop_factory(choice: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if choice not in ("", "uvloop", "asyncio"):
        raise ConfigError(f"{LOOP_VARIABLE} is uvloop or asyncio")
    if choice == "asyncio" or sys.platform != "linux":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(name: str, settings: S, start: Start[S], ready_file: Path | None, log: FilteringBoundLogger) -> int:
    began = time.monotonic()
    scope = Scope(log, settings.grace_s)
    _catch_signals(scope)
    log.info("starting", version=_version(name), pid=os.getpid())
    for one in settings.exposed():
        log.warning("plain text beyond this machine", interface=one.key, address=one.address)
    code = EXIT_OK
    try:
        _remove(ready_file)
        _trace(name, settings.tracing, scope)
        ready = await _unless_stopping(scope, start(settings, scope))
        if ready is not None:
            _announce(ready_file, ready)
            log.info(
                "ready",
                public_key=ready.public_key,
                interfaces=ready.interfaces,
                took_s=round(time.monotonic() - began, 3),
            )
            # What exists now exists for good: collections need not walk it again.
            gc.freeze()
            gc.enable()
            await scope.stopping.wait()
    except ConfigError as error:
        log.error("cannot start", reason=str(error))
        code = EXIT_CONFIG
    except Failure as error:
        log.error("cannot start", reason=listening.reason(error, settings))
        code = EXIT_BROKEN
    except Exception as error:
        log.critical("cannot start", exc_info=error)
        code = EXIT_BROKEN
    _exit_at_last(settings.grace_s + _LAST_RESORT_S, log)
    _remove(ready_file)
    await scope.close()
    code = code or (EXIT_BROKEN if scope.failed else EXIT_OK)
    log.info("stopped", exit_code=code)
    return code


def _trace(name: str, endpoint: str, scope: Scope) -> None:
    """Send spans to a collector, if there is one; raises ConfigError if the extra for that is not installed."""
    if not endpoint:
        return
    try:
        from skywire_common.runtime import otel

        tracer = otel.begin(name, otel.to_collector(endpoint))
    except ModuleNotFoundError as error:
        raise ConfigError(f"tracing wants an extra: pip install '{name}[otel]' ({error.name} is missing)") from error
    scope.defer(lambda: asyncio.to_thread(tracer.close))


async def _unless_stopping(scope: Scope, start: Awaitable[Ready]) -> Ready | None:
    """Await the start; None if the service is told to end before."""
    starting = asyncio.ensure_future(start)
    stopping = asyncio.ensure_future(scope.stopping.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            return starting.result()
        starting.cancel()
        await asyncio.wait((starting,))
        if not starting.cancelled() and (error := starting.exception()) is not None:
            scope.fail("start failed while stopping", error)
        return None
    finally:
        stopping.cancel()


def _catch_signals(scope: Scope) -> None:
    loop = asyncio.get_running_loop()
    seen: set[str] = set()

    def caught(number: int) -> None:
        name = signal.Signals(number).name
        if seen:
            scope.log.warning("stopping at once", reason=name)
            os._exit(128 + number)
        seen.add(name)
        scope.stop(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, caught, number)


def _announce(path: Path | None, ready: Ready) -> None:
    """Write the ready file whole or not at all."""
    if path is None:
        return
    document = {"pid": os.getpid(), "public_key": str(ready.public_key), "interfaces": ready.interfaces}
    try:
        with in_place_of(path) as draft:
            draft.write_bytes(orjson.dumps(document) + b"\n")
    except OSError as error:
        raise ConfigError(f"--ready-file {path}: {error.strerror}") from error


def _remove(path: Path | None) -> None:
    """Remove the ready file: it speaks of a process that serves."""
    if path is not None:
        path.unlink(missing_ok=True)


def _exit_at_last(seconds: float, log: FilteringBoundLogger) -> None:
    def exit_now() -> None:
        log.error("does not end by itself")
        os._exit(EXIT_BROKEN)

    timer = threading.Timer(seconds, exit_now)
    timer.daemon = True
    timer.start()
