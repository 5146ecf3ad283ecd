"""The node put together: data plane, apps, control plane, and the order in which they come and go.

Coming: what needs nobody first (state of the last run, links, control, the owner's socket), then the world in the
background. Going, in reverse: apps, their loops, the word to the discovery, links, servers, state.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from skywire.node.v1 import node_admin_pb2_grpc, node_control_pb2_grpc
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.beside import listen_beside
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import UNIX, RpcServer
from skywire_common.runtime import logging, metrics
from skywire_common.runtime.config import ConfigError, Peer
from skywire_common.runtime.listening import listening
from skywire_common.runtime.scope import Scope
from skywire_common.runtime.service import Ready

from skywire_node.apps.host import AppHost
from skywire_node.apps.limits import Limits
from skywire_node.apps.run import AppSpec, AppState
from skywire_node.config import AppSettings, NodeSettings, TransportTypeSettings
from skywire_node.control import service as control
from skywire_node.control.announcing import Announcer, LinkRegistry
from skywire_node.control.discovery import Discovery, Heartbeat, Presence
from skywire_node.control.life import Life
from skywire_node.control.neighbours import Neighbours
from skywire_node.control.route_setup import RouteSetUps
from skywire_node.control.setup_nodes import SetupNodes, SetupPeer
from skywire_node.link import types
from skywire_node.link.types import TransportType
from skywire_node.loops.idling import Idling
from skywire_node.loops.lives import Lives
from skywire_node.loops.rerouting import Rerouting
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.standby import Standby
from skywire_node.owner import admin
from skywire_node.owner.owner import OwnersApps, OwnersLoops, OwnersTransports
from skywire_node.owner.readings import export
from skywire_node.owner.remote import serve_remote
from skywire_node.owner.views import Summary
from skywire_node.plane import DataPlane
from skywire_node.state.keeping import RuleKeeper
from skywire_node.state.store import Store
from skywire_node.state.traffic import TrafficKeeper

NAME = "skywire-node"
SHARE_FOR_APPS = 0.4  # of the grace; their loops get the same again

log = structlog.get_logger(part="node")


class Node:
    """One node; `start` it once."""

    def __init__(self, settings: NodeSettings, secret: SecretKey, scope: Scope, store: Store, *, adopts: bool) -> None:
        self._settings = settings
        self._secret = secret
        self._scope = scope
        self._store = store
        self._epoch = secrets.randbits(64)
        self._began = time.monotonic()
        self._interfaces: dict[str, str] = {}
        found = settings.transport_discovery
        self._channels = [self._channel(found)] if found is not None else []
        self._discovery = Discovery(self._channels[0] if self._channels else None)
        setups = RouteSetUps(
            secret.public,
            self._discovery,
            self._setup_nodes(),
            has_link=lambda transport: transport in self.plane.router.links,
            any_link=lambda: bool(self.plane.router.links),
            spawn=scope.spawn,
            direct=lambda remote, public: self.plane.transports.direct(remote, public),
        )
        self._rerouting = Rerouting(setups, scope.spawn, epoch_clock=time.time, patience=settings.limits.patience_s)
        self.plane = DataPlane(
            secret,
            self._epoch,
            setups,
            LinkRegistry(self._discovery),
            listener=lambda _: self.apps,
            rerouting=self._route_lost,
            changed=lambda transport: self._announcer.changed(transport),
            spawn=scope.spawn,
            max_rules=settings.limits.max_rules,
            idle_limit=settings.limits.idle_limit_s,
            types=self._types(),
        )
        self._rerouting.loops = self.plane.loops
        self._lives = Lives(self.plane.loops, self._epoch_of, scope.spawn)
        Standby(
            self.plane.loops,
            setups,
            scope.spawn,
            wanted=_standby_wanted(settings.apps),
            install=self._rerouting.install,
            discard=self._rerouting.discard,
        )
        self._announcer = Announcer(secret.public, self._discovery, self.plane.transports)
        self._neighbours = Neighbours(
            secret.public,
            self.plane.transports,
            self._discovery,
            store,
            scope.spawn,
            wanted=settings.transports,
            trusted=settings.trusted_nodes,
        )
        self._keeper = RuleKeeper(store, self.plane.table)
        self._traffic = TrafficKeeper(store, self.plane.transports.take_traffic)
        self._life = Life(settings.local_path)
        self._heartbeat = Heartbeat(
            self._discovery, self._presence, every=settings.heartbeat_s, registered=self._life.keep
        )
        self.apps = AppHost(
            secret.public,
            self.plane.loops,
            [_spec(app) for app in settings.apps],
            self.plane.flow,
            apps_path=settings.apps_path,
            local_path=settings.local_path,
            log=logging.get_logger("apps"),
            rng=random.Random(secrets.randbits(64)),
            adopts=adopts,
        )

    def _channel(self, peer: Peer) -> RpcChannel:
        return RpcChannel(peer.address, peer.public_key, self._secret, tls=peer.tls, server_name=peer.server_name)

    def _setup_nodes(self) -> SetupNodes:
        peers = []
        for peer in self._settings.setup_nodes:
            self._channels.append(self._channel(peer))
            peers.append(SetupPeer(peer.public_key, self._channels[-1]))
        return SetupNodes(peers)

    def _types(self) -> dict[str, TransportType]:
        """Make the types of transports; grpc can be dialled without being named."""
        named = {one.type: one for one in self._settings.transport_types}
        plain = {name: TransportTypeSettings(type=name) for name in types.OWN}
        return {
            name: types.find(name)(types.TypeOptions(self._secret.public, one.tls, one.dial_tls, one.options))
            for name, one in (plain | named).items()
        }

    async def start(self) -> Ready:
        """Open everything; returns once the owner is served, whoever else is away."""
        scope, settings = self._scope, self._settings
        for channel in self._channels:
            scope.defer(channel.close)
        restored = await self._keeper.load()
        scope.defer(self._keeper.keep)
        scope.spawn(self._keeper.run(), "rule keeper")
        scope.defer(self._traffic.keep)
        scope.spawn(self._traffic.run(), "traffic keeper")
        await self._serve()
        plane = self.plane
        scope.defer(plane.transports.stop)
        with listening(settings.interfaces.link):
            self._interfaces["link"] = await plane.transports.listen(settings.interfaces.link)
        for one in settings.transport_types:
            if one.listen is not None:
                with listening(one.listen):
                    self._interfaces[f"link_{one.type}"] = await plane.transports.listen(one.listen, one.type)
        scope.defer(self._say_goodbye)
        scope.spawn(plane.run(), "ticks")
        scope.spawn(self._rerouting.run(), "renewals")
        if (idle := self._settings.limits.idle_loop_s) is not None:
            scope.spawn(Idling(plane.loops, idle).run(), "idle loops")
        await self._neighbours.bring_back()
        scope.spawn(self._neighbours.meet_again(), "meeting neighbours")
        scope.spawn(self._neighbours.link_with_trusted(), "linking with trusted nodes")
        scope.spawn(self._announcer.run(), "announcements")
        scope.spawn(self._heartbeats(), "heartbeats")
        scope.defer(self._close_loops)
        scope.defer(lambda: self.apps.close(scope.grace * SHARE_FOR_APPS))
        for name, auto_start in (await self._store.load_auto_start()).items():
            if any(app.app == name for app in settings.apps):  # else it was the choice for an app that is gone
                self.apps.set_auto_start(name, auto_start)
        self.apps.start()
        log.info("node up", public_key=self._secret.public, rules_restored=restored, epoch=self._epoch)
        return Ready(self._secret.public, self._interfaces)

    async def _serve(self) -> None:
        settings, scope, plane = self._settings, self._scope, self.plane
        registry = metrics.new_registry()
        metrics.show_build(registry, NAME, NAME)
        self._export(registry)
        shown = await metrics.serve(registry, settings.interfaces.metrics, settings.interfaces.metrics_tls)
        scope.defer(shown.close)
        trusted = settings.trusted()
        server = RpcServer(
            self._secret,
            control.ACCESS | admin.ACCESS,
            trusted=lambda key: key in trusted,
            replays=MemoryReplays(),
            registry=registry,
        )
        server.add(
            node_control_pb2_grpc.add_NodeControlServicer_to_server,
            control.NodeControlService(self._secret.public, plane.table, plane.loops),
            control.SERVICE,
        )
        owners = admin.NodeAdminService(
            self._secret.public,
            plane.table,
            OwnersApps(self.apps, self._store.keep_auto_start),
            OwnersTransports(plane.transports, self._neighbours.keep, self._traffic),
            OwnersLoops(plane.loops, plane.tracing, self.apps),
            self.summary,
            logging.set_level,
        )
        server.add(node_admin_pb2_grpc.add_NodeAdminServicer_to_server, owners, admin.SERVICE)
        server.add_process(NAME, NAME)
        self._interfaces |= await listen_beside(server, settings.interfaces.health, settings.interfaces.admin)
        self._interfaces["control"] = await server.listen(settings.interfaces.control, settings.interfaces.control_tls)
        self._interfaces["metrics"] = shown.address
        await server.start()
        scope.defer(lambda: self._stop_serving(server))
        server.serving(admin.SERVICE, yes=True)
        server.serving(control.SERVICE, yes=True)
        if settings.interfaces.admin_remote is not None:
            remote, self._interfaces["admin_remote"] = await serve_remote(
                self._secret, owners, settings.interfaces.admin_remote
            )
            scope.defer(lambda: remote.stop(0))

    async def _stop_serving(self, server: RpcServer) -> None:
        await server.stop(self._scope.grace)
        socket = Path(self._interfaces["admin"].removeprefix(UNIX))
        await asyncio.to_thread(socket.unlink, missing_ok=True)

    def _presence(self) -> Presence:
        shown = self._settings.interfaces
        addresses = {"tcp": shown.announced_link or self._interfaces["link"]}
        for one in self._settings.transport_types:
            if one.listen is not None:
                addresses[one.type] = one.announced or self._interfaces[f"link_{one.type}"]
        kind = "control" if shown.control_tls is None else "control_tls"
        addresses[kind] = shown.announced_control or self._interfaces["control"]
        return Presence(addresses, self._epoch, self._settings.limits.max_hops, self._life.previous_epoch)

    async def _heartbeats(self) -> None:
        """Beat; the same key running elsewhere ends this node, who would only take turns with it."""
        try:
            await self._heartbeat.run()
        except Failure as failure:
            if failure.code is not ErrorCode.DUPLICATE_IDENTITY:
                raise
            what = "this key is in use by another node: stop that one, or give this one a key of its own"
            self._scope.fail(what, failure, expected=True)

    def _route_lost(self, loop: RoutedLoop, reason: str) -> None:
        self._rerouting.lost(loop, reason)
        self._lives.lost(loop)

    async def _epoch_of(self, node: PublicKey) -> int:
        return (await self._discovery.resolve(node)).epoch

    # -- going

    async def _close_loops(self) -> None:
        """Let what the apps wrote arrive, then end what is left."""
        loops = self.plane.loops
        try:
            async with asyncio.timeout(self._scope.grace * SHARE_FOR_APPS):
                await loops.drain()
        except TimeoutError:
            loops.abort_all(Failure(ErrorCode.STOPPING, "the node stops"))

    async def _say_goodbye(self) -> None:
        await asyncio.gather(self._announcer.stop(), self._heartbeat.stop())

    # -- what it shows

    def summary(self) -> Summary:
        """Return the node at a glance."""
        plane = self.plane
        short = plane.transports.descriptors.reason(time.monotonic())
        reasons = [reason for reason in (self._heartbeat.reason, self._keeper.reason, short) if reason]
        if not self._settings.setup_nodes:
            reasons.append("the config names no setup node: this node cannot dial")
        state = "STOPPING" if self._scope.stopping.is_set() else "DEGRADED" if reasons else "READY"
        statuses = self.apps.statuses()
        return Summary(
            epoch=self._epoch,
            uptime=time.monotonic() - self._began,
            state=state,
            reasons=tuple(reasons),
            link_address=self._interfaces.get("link", ""),
            control_address=self._interfaces.get("control", ""),
            transports_up=len(plane.router.links),
            transports=len(plane.transports.all),
            loops=len(plane.loops.by_id) + sum(1 for _ in self.apps.local_loops()),
            apps_ready=sum(status.state is AppState.READY for status in statuses),
            apps=len(statuses),
            packets_forwarded=plane.router.forwarded,
            bytes_forwarded=plane.router.forwarded_bytes,
            packets_dropped={reason.value: count for reason, count in plane.router.dropped.items()},
            link_addresses={
                name.removeprefix("link_") if name != "link" else types.TCP: address
                for name, address in self._interfaces.items()
                if name.startswith("link")
            },
        )

    def _export(self, registry: CollectorRegistry) -> None:
        export(
            registry,
            self.plane,
            ready=lambda: self.summary().state == "READY",
            apps=lambda: Counter(status.state.value for status in self.apps.statuses()),
        )


def _standby_wanted(apps: Sequence[AppSettings]) -> Callable[[RoutedLoop], bool]:
    """Make the question whether a loop is to have a standby: its app's config says so, at either end."""
    names = {app.app for app in apps if app.standby}
    ports = {app.port for app in apps if app.standby and app.port}
    return lambda loop: loop.app in names if loop.initiator else loop.local.port in ports


def _spec(app: AppSettings) -> AppSpec:
    bounds = app.limits
    limits = Limits(bounds.loops, bounds.backlog, bounds.queued_bytes, bounds.frames_per_second)
    return AppSpec(app.app, app.version, app.port, app.auto_start, app.args, app.env, app.restart, limits)


async def start(settings: NodeSettings, scope: Scope, *, adopts: bool = False) -> Ready:
    """Start a node; its closing is deferred to the scope. `adopts`: as for `AppHost`."""
    secret = settings.node.secret()
    for key, directory in (("apps_path", settings.apps_path), ("local_path", settings.local_path)):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{key}: {error.filename}: {error.strerror}") from error
    store = await Store.open(settings.local_path)
    scope.defer(store.close)
    return await Node(settings, secret, scope, store, adopts=adopts).start()
