"""skywire.common.v1.Process: what runs here, and what it logs. The same in every service."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

from skywire.common.v1 import common_pb2, process_pb2, process_pb2_grpc

from skywire_common.keys import PublicKey
from skywire_common.rpc.gate import Access
from skywire_common.runtime import logging
from skywire_common.runtime.metrics import REVISION_VARIABLE

SERVICE = "skywire.common.v1.Process"
ACCESS = {
    f"/{SERVICE}/GetBuildInfo": Access.ANYONE,
    f"/{SERVICE}/GetLogLevel": Access.LOCAL,
    f"/{SERVICE}/SetLogLevel": Access.LOCAL,
}


class ProcessService(process_pb2_grpc.ProcessServicer):
    """The servicer; `name` is the command and `distribution` what its version is asked of."""

    def __init__(self, name: str, distribution: str, public_key: PublicKey) -> None:
        self._name = name
        self._build = common_pb2.BuildInfo(
            version=importlib.metadata.version(distribution),
            python=platform.python_version(),
            public_key=public_key,
        )
        self._began = time.monotonic()

    async def GetBuildInfo(  # noqa: N802 -- the proto's name
        self, request: process_pb2.GetBuildInfoRequest, context: Any
    ) -> process_pb2.GetBuildInfoResponse:
        """Say what is running."""
        return process_pb2.GetBuildInfoResponse(
            build=self._build,
            service=self._name,
            revision=os.environ.get(REVISION_VARIABLE, ""),
            uptime_s=int(time.monotonic() - self._began),
            now_ms=int(time.time() * 1000),
        )

    async def GetLogLevel(  # noqa: N802
        self, request: process_pb2.GetLogLevelRequest, context: Any
    ) -> process_pb2.GetLogLevelResponse:
        """Say what is logged."""
        return process_pb2.GetLogLevelResponse(level=logging.current_level())

    async def SetLogLevel(  # noqa: N802
        self, request: process_pb2.SetLogLevelRequest, context: Any
    ) -> process_pb2.SetLogLevelResponse:
        """Log from this level up; raises DecodeError for a word that is none."""
        logging.set_level(request.level)
        return process_pb2.SetLogLevelResponse(level=logging.current_level())
