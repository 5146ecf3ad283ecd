"""What `doctor --fix` does: only what takes nothing from anybody, and only for findings that name it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_cli.doctor.checks import KEY_MODE, Fix

if TYPE_CHECKING:
    from skywire_cli.admin import NodeAdmin
    from skywire_cli.doctor.facts import Facts

_EXECUTE = 0o100
_ON_FILES: Mapping[str, Callable[[Path], None]] = {
    "key": lambda path: path.chmod(KEY_MODE),
    "chmod": lambda path: path.chmod(path.stat().st_mode | _EXECUTE),
    "mkdir": lambda path: path.mkdir(parents=True, exist_ok=True),
    "unlink": lambda path: path.unlink(missing_ok=True),
}


async def repair(fix: Fix, facts: Facts) -> None:
    """Carry a fix out; raises Failure or OSError if it does not succeed."""
    if fix.kind in _ON_FILES:
        await asyncio.to_thread(_ON_FILES[fix.kind], Path(fix.subject))
    elif fix.kind == "down":
        await _report_down(UUID(fix.subject), facts)
    else:
        from skywire_cli.admin import NodeAdmin

        async with NodeAdmin(facts.socket) as admin:
            await _on_node(fix, admin)


async def _on_node(fix: Fix, admin: NodeAdmin) -> None:
    if fix.kind == "start":
        await admin.start_app(fix.subject)
    elif fix.kind == "drop":
        await admin.drop_rules([int(text, 16) for text in fix.subject.split()])
    elif fix.kind == "add":
        key, kind, visibility, *address = fix.subject.split(" ")
        await admin.add_transport(PublicKey.parse(key), kind, visibility == "public", address[0] if address else "")
    else:
        raise Failure(ErrorCode.UNIMPLEMENTED, f"nothing repairs {fix.kind!r}")


async def _report_down(transport: UUID, facts: Facts) -> None:
    """Say to the discovery, in the node's name, that it does not have a transport."""
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as td
    from skywire_common.curve import SecretKey

    from skywire_cli.doctor.gather import channel_to

    assert facts.discovery is not None and facts.key_file is not None  # noqa: S101 - it listed the transport
    channel = channel_to(facts.discovery, SecretKey.load(facts.key_file))
    try:
        status = td.UpdateStatusesRequest.Status(transport_id=transport.bytes, is_up=False)
        request = td.UpdateStatusesRequest(statuses=[status])
        path = "/skywire.transport_discovery.v1.TransportDiscovery/UpdateStatuses"
        await channel.call(path, request, td.UpdateStatusesResponse, timeout=5.0)
    finally:
        await channel.close()
