"""A service that does what its configuration says; run as a process by test_service."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Literal

from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.runtime.config import ConfigError, KeyFile, ServiceSettings
from skywire_common.runtime.service import Ready, Scope, main


class Settings(ServiceSettings):
    secret_key_file: KeyFile
    mode: Literal[
        "serves", "fails", "breaks", "misconfigured", "never starts", "task dies", "closer hangs", "thread hangs"
    ] = "serves"


async def start(settings: Settings, scope: Scope) -> Ready:
    secret = SecretKey.load(settings.secret_key_file)
    loop = asyncio.get_running_loop()

    async def close() -> None:
        scope.log.info("closed", collecting_garbage=gc.isenabled())

    async def dies() -> None:
        raise ValueError("nobody expected this")

    async def hangs() -> None:
        await asyncio.Event().wait()

    scope.defer(close)
    match settings.mode:
        case "fails":
            raise Failure(ErrorCode.CONFLICT, "the port is taken")
        case "breaks":
            raise KeyError("nobody expected this")
        case "misconfigured":
            raise ConfigError("the database is of another kind")
        case "never starts":
            await hangs()
        case "task dies":
            scope.spawn(dies(), "heartbeat")
        case "closer hangs":
            scope.defer(hangs)
        case "thread hangs":
            loop.run_in_executor(None, time.sleep, 60)
    return Ready(secret.public, {"loop": type(loop).__module__, "grpc": "127.0.0.1:1"})


if __name__ == "__main__":
    main("skywire-tiny", Settings, start)
