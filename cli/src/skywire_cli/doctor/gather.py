"""Look at a node, its files and its neighbourhood. Whatever cannot be looked at is a fact of its own, not an error."""

from __future__ import annotations

import asyncio
import json
import os
import socket as sockets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from skywire.common.v1 import process_pb2
from skywire.setup_node.v1 import setup_node_pb2
from skywire.transport_discovery.v1 import transport_discovery_pb2 as td
from skywire_common.convert.fields import ID_SIZE
from skywire_common.curve import SecretKey
from skywire_common.edge_tags import SALT_SIZE
from skywire_common.errors import DecodeError, ErrorCode, Failure, LocalError
from skywire_common.keys import PublicKey
from skywire_common.named_keys import key_text
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime.config import TlsFiles

from skywire_cli.admin import NodeAdmin
from skywire_cli.disk import free_at
from skywire_cli.doctor.facts import Facts, PeerFact
from skywire_cli.doctor.ports import taken
from skywire_cli.shown import plain
from skywire_cli.target import SOCKET_FILE

TIMEOUT = 3.0
# A setup node gives each node 2 s.
REACH_TIMEOUT = 6.0
MAX_NEIGHBOURS = 16
# Where to knock if a node listens on every address.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - not to bind
_DISCOVERY = "/skywire.transport_discovery.v1."
_NO_KEY = "it holds no secret key of 64 hex digits"
_AWAY = (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE, ErrorCode.STOPPING, ErrorCode.UNIMPLEMENTED)


async def gather(socket: Path, config: Path | None, check: Callable[[Path], str]) -> Facts:
    """Return the facts; `check` says what is wrong with a configuration file, empty if nothing."""
    facts = Facts(socket, config=config)
    secret = await asyncio.to_thread(_files, facts, check)
    if facts.socket_exists:
        async with NodeAdmin(facts.socket) as admin:
            await _node(facts, admin)
    if facts.document is not None:
        if facts.summary is None and facts.silent in ("", "UNAVAILABLE"):
            facts.taken = await asyncio.to_thread(taken, facts.document)
        await _neighbourhood(facts, secret)
    return facts


def _files(facts: Facts, check: Callable[[Path], str]) -> SecretKey | None:
    facts.socket_exists = facts.socket.is_socket()
    if facts.config is None:
        return None
    facts.config_problem = check(facts.config)
    try:
        document = json.loads(facts.config.read_text())
    except (OSError, ValueError):
        return None  # the check said so
    if not isinstance(document, dict):
        return None
    document = facts.document = _with_keys(document)
    local = Path(document.get("local_path", "local"))
    apps = Path(document.get("apps_path", "apps"))
    facts.directories = {directory: _directory(directory) for directory in (apps, local)}
    for app in document.get("apps", ()):
        if isinstance(app, dict):
            executable = apps / f"{app.get('app')}.v{app.get('version')}"
            facts.executables[executable] = _executable(executable)
    facts.free_bytes = free_at(local, facts.config)
    return _key(facts, document)


def _with_keys(document: Any) -> Any:
    """Return a configuration with the public keys that it names by files."""
    if isinstance(document, dict):
        return {name: _with_keys(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_with_keys(value) for value in document]
    if isinstance(document, str):
        with suppress(OSError):
            return key_text(document)
    return document


def _key(facts: Facts, document: Mapping[str, Any]) -> SecretKey | None:
    named = document.get("node", {})
    if not isinstance(named, dict) or "static_secret_key_file" not in named:
        return None
    facts.key_file = Path(str(named["static_secret_key_file"]))
    try:
        facts.key_mode = facts.key_file.stat().st_mode & 0o777
        secret = SecretKey.load(facts.key_file)
        facts.key_mode &= 0o700  # what root lends to a group, others do not read
    except OSError as error:
        facts.key_problem = error.strerror or str(error)
        return None
    except LocalError:
        if facts.key_file.is_dir() or not SecretKey.is_in(facts.key_file):
            # Then its mode is no matter, and no chmod mends it.
            facts.key_mode = None
            facts.key_problem = "it is a directory" if facts.key_file.is_dir() else _NO_KEY
        return None  # or its mode says so
    except DecodeError:
        facts.key_problem = _NO_KEY
        return None
    facts.public_key = str(secret.public)
    return secret


def _directory(path: Path) -> str:
    if path.exists() and not path.is_dir():
        return "ok"  # the check of the configuration says what it is instead
    return "missing" if not path.is_dir() else "ok" if os.access(path, os.W_OK | os.X_OK) else "not writable"


def _executable(path: Path) -> str:
    return "missing" if not path.is_file() else "ok" if os.access(path, os.X_OK) else "not executable"


async def gather_from_elsewhere(address: str, admin: NodeAdmin, config: Path | None) -> Facts:
    """Return the facts of a node on another machine; of `config`, a copy of its own, only whom it names counts.

    Raises Failure if the node does not answer.
    """
    facts = Facts(Path(SOCKET_FILE), elsewhere=address, config=config)
    if config is not None:
        facts.document = _with_keys(json.loads(await asyncio.to_thread(config.read_bytes)))
    await _ask(facts, admin)
    assert facts.summary is not None  # noqa: S101 - it answered
    facts.public_key = facts.summary["build"]["public_key"]
    if facts.document is not None:
        await _neighbourhood(facts, None)
    return facts


async def _ask(facts: Facts, admin: NodeAdmin) -> None:
    """Have the node say how it is, and what time; raises Failure."""
    began = time.time()
    summary = await admin.summary()
    if summary.now_ms:
        facts.clock_ahead_s = _ahead(summary.now_ms, began)
    facts.summary = plain(summary)
    facts.apps = [plain(one) for one in await admin.apps()]
    facts.transports = [plain(one) for one in await admin.transports()]
    facts.rules = [plain(one) for one in await admin.rules()]
    facts.loops = [plain(one) for one in await admin.loops()]


async def _node(facts: Facts, admin: NodeAdmin) -> None:
    try:
        await _ask(facts, admin)
    except Failure as failure:
        facts.summary, facts.silent = None, failure.code.value
        # A node that is frozen or very busy takes a connection and says nothing: its socket is no leftover.
        if failure.code is ErrorCode.UNAVAILABLE and await asyncio.to_thread(listens, facts.socket):
            facts.silent = ErrorCode.DEADLINE.value
        return
    assert facts.summary is not None  # noqa: S101 - it answered
    host, _, port = facts.summary["link_address"].rpartition(":")
    if port:
        facts.link_open = await _accepts(_EVERYWHERE.get(host, host.strip("[]")), int(port))


def listens(path: Path) -> bool:
    """Tell whether somebody takes connections on a unix socket."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            # Somebody does, and has a full queue of them.
            return True
        except OSError:
            return False
    return True


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _neighbourhood(facts: Facts, secret: SecretKey | None) -> None:
    assert facts.document is not None  # noqa: S101 - the caller looked
    setup_nodes = [one for one in facts.document.get("setup_nodes", ()) if isinstance(one, dict)]
    request = setup_node_pb2.RenewLoopRequest()
    path, answer = "/skywire.setup_node.v1.SetupNode/RenewLoop", setup_node_pb2.RenewLoopResponse
    jobs = [_peer(one, secret, path, request, answer) for one in setup_nodes]
    found = await asyncio.gather(_discovery(facts, secret), *jobs)
    facts.setup_nodes = [one for one in found[1:] if one is not None]
    own = facts.summary["build"]["public_key"] if facts.summary is not None else ""
    if secret is not None and own == facts.public_key:
        linked = sorted({row["remote"] for row in facts.transports if row["state"] == "UP"})[:MAX_NEIGHBOURS]
        await asyncio.gather(*(_reach(one, [own, *linked], secret) for one in facts.setup_nodes if not one.code))


async def _reach(setup_node: PeerFact, nodes: Sequence[str], secret: SecretKey) -> None:
    """Have a setup node remove a rule that nobody has from each node: it cannot where it is not let in."""
    rules = [setup_node_pb2.NodeRules(public_key=bytes.fromhex(key), route_ids=[1]) for key in nodes]
    request = setup_node_pb2.CloseLoopRequest(
        setup_id=os.urandom(ID_SIZE), rules=rules, reason="skywire doctor", edge_salt=os.urandom(SALT_SIZE)
    )
    channel = channel_to(setup_node, secret)
    path = "/skywire.setup_node.v1.SetupNode/CloseLoop"
    try:
        answer = await channel.call(path, request, setup_node_pb2.CloseLoopResponse, timeout=REACH_TIMEOUT)
    except Failure as failure:
        _note(setup_node, failure)
    else:
        setup_node.unreached = [key.hex() for key in answer.unreached]
    finally:
        await channel.close()


async def _peer(
    named: Mapping[str, Any], secret: SecretKey | None, path: str, request: Message, answer: type[Message]
) -> PeerFact:
    """Ask for nothing, signed: a service with the right key refuses that as an argument, not as a caller."""
    fact = PeerFact(str(named.get("address", "")), str(named.get("public_key", "")))
    fact.server_name = str(named.get("server_name", ""))
    try:
        fact.tls = None if named.get("tls") is None else TlsFiles.model_validate(named["tls"])
        channel = channel_to(fact, secret)
    except (DecodeError, LocalError, ValueError) as error:
        fact.code, fact.cause = "INVALID_ARGUMENT", str(error)
        return fact
    try:
        if secret is not None:
            await channel.call(path, request, answer, timeout=TIMEOUT)
    except Failure as failure:
        if failure.code in _AWAY or failure.code is ErrorCode.UNAUTHENTICATED:
            _note(fact, failure)
    try:
        if not fact.code:
            fact.clock_ahead_s = await _clock(channel)
    except Failure as failure:
        if failure.code in _AWAY:
            _note(fact, failure)
    finally:
        await channel.close()
    return fact


async def _clock(channel: RpcChannel) -> float:
    """Return how many seconds a service's clock is ahead of ours, give or take half of the way there and back."""
    began = time.time()
    path, request = "/skywire.common.v1.Process/GetBuildInfo", process_pb2.GetBuildInfoRequest()
    said = await channel.call(path, request, process_pb2.GetBuildInfoResponse, timeout=TIMEOUT, signed=False)
    # One of a release before tells its time only when it refuses a call for it.
    return _ahead(said.now_ms, began) if said.now_ms else channel.offset_s


def _ahead(now_ms: int, began: float) -> float:
    """Return by how many seconds a clock is ahead of ours that was read between `began` and now; epoch milliseconds."""
    return now_ms / 1000 - (began + time.time()) / 2


def _note(peer: PeerFact, failure: Failure) -> None:
    peer.code, peer.cause, peer.limit = failure.code.value, failure.cause, failure.fields.limit


async def _discovery(facts: Facts, secret: SecretKey | None) -> None:
    assert facts.document is not None  # noqa: S101 - the caller looked
    named = facts.document.get("transport_discovery")
    if not isinstance(named, dict):
        return
    path = f"{_DISCOVERY}TransportDiscovery/UpdateStatuses"
    facts.discovery = await _peer(named, secret, path, td.UpdateStatusesRequest(), td.UpdateStatusesResponse)
    if facts.discovery.code:
        return
    own = facts.summary["build"]["public_key"] if facts.summary is not None else facts.public_key
    channel = channel_to(facts.discovery, None)
    try:
        if own:
            facts.record = await _record(channel, bytes.fromhex(own))
            request = td.ListTransportsByEdgeRequest(edge=bytes.fromhex(own))
            path = f"{_DISCOVERY}TransportDiscovery/ListTransportsByEdge"
            answer = td.ListTransportsByEdgeResponse
            listed = await channel.call(path, request, answer, timeout=TIMEOUT, signed=False)
            facts.listed = [_listed(one) for one in listed.transports]
        for remote in {row["remote"] for row in facts.transports if row["state"] != "UP"}:
            record = await _record(channel, bytes.fromhex(remote))
            facts.neighbours[remote] = record or {"alive": False}
    except Failure as failure:
        _note(facts.discovery, failure)
    finally:
        await channel.close()


def _listed(one: td.TransportStatus) -> dict[str, Any]:
    row = plain(one)
    return {**row, "transport_id": row["entry"]["entry"]["transport_id"]}


def channel_to(peer: PeerFact, secret: SecretKey | None) -> RpcChannel:
    """Make a channel as the node makes it; raises DecodeError, and LocalError for TLS files that cannot be used."""
    key = PublicKey.parse(peer.public_key)
    return RpcChannel(peer.address, key, secret, tls=peer.tls, server_name=peer.server_name)


async def _record(channel: RpcChannel, key: bytes) -> dict[str, Any] | None:
    path, request = f"{_DISCOVERY}NodeDirectory/ResolveNode", td.ResolveNodeRequest(public_key=key)
    try:
        return plain(await channel.call(path, request, td.ResolveNodeResponse, timeout=TIMEOUT, signed=False))
    except Failure as failure:
        if failure.code is ErrorCode.UNKNOWN_NODE:
            return None
        raise
