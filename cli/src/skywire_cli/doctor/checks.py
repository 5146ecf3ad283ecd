"""What is wrong with a node, judged from facts alone: each finding names the difference and its repair. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from skywire_common import disk

from skywire_cli.disk import LEAST_FREE, too_little
from skywire_cli.doctor.clocks import Clock, wrong
from skywire_cli.doctor.facts import Facts, PeerFact, Row
from skywire_cli.output import route_id

MANY_RESTARTS = 3
KEY_MODE = 0o600
# Statuses need some time to travel before a difference is one.
SETTLED_AFTER_S = 5


class Fix(NamedTuple):
    """What `--fix` does: `kind` of `repairs`, on `subject`."""

    kind: str
    subject: str


class Finding(NamedTuple):
    """One difference. `code` is for programs and never changes its meaning."""

    code: str
    what: str
    repair: str
    fix: Fix | None = None


def judge(facts: Facts) -> list[Finding]:
    """Return everything that is wrong, the most fundamental first."""
    return [finding for check in _CHECKS for finding in check(facts)]


def _files(facts: Facts) -> Iterator[Finding]:
    key = facts.key_file
    bad_key = key is not None and (facts.key_problem or (facts.key_mode is not None and facts.key_mode & 0o077))
    # A key that cannot be used is a mistake of the configuration too; it is told once.
    if facts.config_problem and not (bad_key and _KEY in facts.config_problem and "; " not in facts.config_problem):
        yield Finding(
            "CONFIG_WRONG",
            f"the configuration is wrong: {facts.config_problem}",
            f"correct {facts.config}, then: skywire config check node --config {facts.config}",
        )
    if key is not None and facts.key_mode is not None and facts.key_mode & 0o077:
        repair = f"chmod 600 {key}; if it was readable for long, make a new key"
        yield Finding(
            "KEY_READABLE", f"{key} may be read by others (mode {facts.key_mode:04o})", repair, _fix("key", key)
        )
    if key is not None and facts.key_problem:
        yield Finding(
            "KEY_UNUSABLE", f"{key}: {facts.key_problem}", f"put the key back, or make one: skywire keygen {key}"
        )
    for directory, state in facts.directories.items():
        if state == "missing":
            yield Finding(
                "DIRECTORY_MISSING", f"{directory} is missing", f"mkdir -p {directory}", _fix("mkdir", directory)
            )
        elif state != "ok":
            yield Finding("DIRECTORY_READ_ONLY", f"{directory} is {state}", f"chown the node's user to {directory}")
    if facts.free_bytes is not None and facts.free_bytes < LEAST_FREE:
        repair = f"free at least {LEAST_FREE >> 20} MiB; old logs are the first place to look"
        yield Finding("DISK_FULL", too_little(facts.free_bytes), repair)


def _running(facts: Facts) -> Iterator[Finding]:
    summary = facts.summary
    if summary is None:
        if facts.socket_exists and facts.silent == "UNAVAILABLE":
            what, repair = (
                f"{facts.socket} is left of a node that runs no more",
                f"rm {facts.socket}, then: {facts.start}",
            )
            yield Finding("SOCKET_STALE", what, repair, _fix("unlink", facts.socket))
        elif facts.socket_exists:
            yield Finding("NODE_SILENT", f"the node does not answer: {facts.silent}", "look at its log, or restart it")
        else:
            yield Finding("NODE_NOT_RUNNING", f"no node listens on {facts.socket}", f"start it: {facts.start}")
        for one in facts.taken:
            who = f" by {one.who}" if one.who else ""
            repair = f"stop {one.who or 'who has it'}, or change {one.key} in {facts.config}"
            yield Finding("PORT_TAKEN", f"{one.key}: {one.address} {one.why}{who}", repair)
        return
    if facts.public_key and summary["build"]["public_key"] != facts.public_key:
        what = f"the node that runs is {summary['build']['public_key'][:8]}, the key file holds {facts.public_key[:8]}"
        yield Finding("KEY_DIFFERS", what, "restart the node, or put the right key file back")
    if facts.link_open is False:
        what = f"nothing accepts links on {summary['link_address']}"
        yield Finding("LINK_PORT_CLOSED", what, "look for a firewall on this machine, or restart the node")
    for reason in summary["reasons"]:
        if not reason.startswith(("discovery:", "the config names no", "not registered")):
            yield Finding("DEGRADED", f"the node says: {reason}", "the node's log says more: skywire logs")


def _against_config(facts: Facts) -> Iterator[Finding]:
    """Compare what runs with what its file says now."""
    document = facts.document
    if facts.summary is None or document is None:
        return
    running = {row["name"]: row for row in facts.apps}
    for app in document.get("apps", ()):
        name, row = app.get("app"), running.get(app.get("app"))
        if row is None:
            yield Finding("CONFIG_NOT_IN_FORCE", f"app {name} stands in the config, but the node has none", _RESTART)
        elif (row["version"], row["port"]) != (app.get("version"), app.get("port", 0)):
            has = f"app {name} runs as {row['version']} on port {row['port']}, not as the config says"
            yield Finding("CONFIG_NOT_IN_FORCE", has, _RESTART)
    for name in running.keys() - {app.get("app") for app in document.get("apps", ())}:
        yield Finding("CONFIG_NOT_IN_FORCE", f"app {name} runs, but stands no more in the config", _RESTART)
    linked = {(row["remote"], row["type"], row["public"]) for row in facts.transports}
    for one in document.get("transports", ()):
        key, kind = one.get("public_key", ""), one.get("type", "tcp")
        if (key, kind, one.get("public", True)) not in linked:
            add = f"skywire node transports add {key}" + (f" --address {one['address']}" if one.get("address") else "")
            subject = " ".join(
                (key, kind, "public" if one.get("public", True) else "private", one.get("address") or "")
            )
            what = f"the config wants a {kind} transport to {key[:8]}, the node has none"
            yield Finding("TRANSPORT_MISSING", what, add, Fix("add", subject))
    bound = facts.summary["link_address"].rpartition(":")[2]
    wanted = str(document.get("interfaces", {}).get("link", ":0")).rpartition(":")[2]
    if wanted not in ("0", bound):
        yield Finding("CONFIG_NOT_IN_FORCE", f"links are accepted on port {bound}, the config says {wanted}", _RESTART)


def _apps(facts: Facts) -> Iterator[Finding]:
    for executable, state in facts.executables.items():
        if state == "missing":
            yield Finding(
                "APP_MISSING",
                f"there is no executable {executable}",
                "install it there (skywire node apps remove, then add), or correct apps_path",
            )
        elif state != "ok":
            yield Finding(
                "APP_NOT_EXECUTABLE", f"{executable} is {state}", f"chmod +x {executable}", _fix("chmod", executable)
            )
    for row in facts.apps:
        name = row["name"]
        said = row["reason"] or "it gave no reason"
        if row["state"] == "STOPPED" and row["auto_start"]:
            repair = f"skywire node apps start {name}; its last words: skywire logs --app {name}"
            yield Finding("APP_STOPPED", f"app {name} should run but is stopped: {said}", repair, Fix("start", name))
        elif row["state"] == "DEGRADED":
            yield Finding("APP_DEGRADED", f"app {name} is degraded: {said}", f"skywire logs --app {name}")
        elif row["restarts"] >= MANY_RESTARTS:
            yield Finding(
                "APP_RESTARTS", f"app {name} was restarted {row['restarts']} times", f"skywire logs --app {name}"
            )


def _discovery(facts: Facts) -> Iterator[Finding]:
    peer = facts.discovery
    if facts.document is not None and peer is None and not facts.config_problem:
        yield Finding(
            "NO_DISCOVERY", "the config names no transport_discovery", "name its address and public key, restart"
        )
    if peer is None:
        return
    yield from _peer(peer, "the discovery", "DISCOVERY", "transport_discovery")
    if peer.code:
        return
    if facts.summary is None:
        return
    if facts.record is None:
        yield Finding(
            "NOT_REGISTERED",
            "the discovery does not know this node",
            "wait a minute; else look at the log: skywire logs",
        )
        return
    if not facts.record["alive"]:
        yield Finding(
            "LEASE_OVER", "the discovery holds this node for dead: its heartbeats do not arrive", "skywire logs"
        )
    if facts.record["epoch"] != facts.summary["epoch"]:
        what = "another process is registered under this node's key"
        yield Finding("DUPLICATE_IDENTITY", what, "stop the other one, or give this one a key of its own")


def _clocks(facts: Facts) -> Iterator[Finding]:
    peers = [(facts.discovery, "the discovery")] if facts.discovery is not None else []
    peers += [(peer, f"setup node {peer.public_key[:8]}") for peer in facts.setup_nodes]
    clocks = [
        Clock(who, f"on the machine of {peer.address}", peer.clock_ahead_s) for peer, who in peers if not peer.code
    ]
    if facts.clock_ahead_s is not None:
        clocks.append(
            Clock("the node", f"on its machine{facts.elsewhere and f' ({facts.elsewhere})'}", facts.clock_ahead_s)
        )
    elif not facts.elsewhere:
        # Where the doctor runs the node does too.
        clocks.append(Clock("this machine", "here", 0.0))
    for one in wrong(clocks):
        repair = f"set the clock {one.clock.where}: timedatectl set-ntp true"
        yield Finding("CLOCK_SKEW", f"the clock of {one.clock.who} is {one.how} that of {one.than}", repair)


def _transports(facts: Facts) -> Iterator[Finding]:
    if facts.summary is None:
        return
    listed = {row["transport_id"]: row for row in facts.listed} if facts.listed is not None else None
    local = {row["transport_id"]: row for row in facts.transports}
    for key, row in local.items():
        up = row["state"] == "UP"
        if not up:
            neighbour = facts.neighbours.get(row["remote"])
            why = row["reason"] or "no reason given"
            dead = neighbour is not None and not neighbour["alive"]
            repair = "start that node" if dead else "see that it runs and its address can be reached from here"
            code = "NEIGHBOUR_DEAD" if dead else "TRANSPORT_DOWN"
            yield Finding(code, f"transport {key} to {row['remote'][:8]} is {row['state']}: {why}", repair)
        if listed is None or not row["public"] or row["since_s"] < SETTLED_AFTER_S:
            continue
        if up and key not in listed:
            what = f"transport {key} is up, but the discovery does not list it"
            yield Finding("NOT_LISTED", what, "the node registers it within half a minute; else: skywire logs")
        elif up and not listed[key]["is_up"]:
            what = f"transport {key} is up here, but not at the discovery: {_said(listed[key], row['remote'])}"
            yield Finding("STATUS_DIFFERS", what, "wait half a minute; else restart the end that says otherwise")
    for key, one in (listed or {}).items():
        if key not in local and one["is_up"]:
            what = f"the discovery lists transport {key} as up, but the node has it not: routes over it fail"
            yield Finding("LISTED_ONLY", what, "report it down: skywire doctor --fix", Fix("down", key))


def _said(row: Row, remote: str) -> str:
    edges = row["entry"]["entry"]["edges"]
    for edge, status in zip(edges, row["statuses"], strict=False):
        if not status["is_up"]:
            who = "the other end" if edge == remote else "this node"
            return f"{who} " + ("reported it down" if status["submitted"] else "has not reported it")
    return "an end is held for dead"


def _setup_nodes(facts: Facts) -> Iterator[Finding]:
    document = facts.document
    if document is not None and not document.get("setup_nodes"):
        yield Finding(
            "NO_SETUP_NODE", "the config names no setup node: apps cannot dial", "add one under setup_nodes, restart"
        )
    if document is not None and not document.get("trusted_nodes"):
        yield Finding("TRUSTS_NOBODY", "trusted_nodes is empty: nobody can route through this node or to it", _TRUST)
    for peer in facts.setup_nodes:
        yield from _peer(peer, f"setup node {peer.public_key[:8]}", "SETUP_NODE", "setup_nodes")
        yield from _unreached(facts, peer)
        if document is not None and document.get("trusted_nodes") and peer.public_key not in document["trusted_nodes"]:
            what = f"this node asks setup node {peer.public_key[:8]} for loops, but does not let it install rules"
            yield Finding("NOT_TRUSTED", what, f"add {peer.public_key} to trusted_nodes, restart the node")


def _unreached(facts: Facts, peer: PeerFact) -> Iterator[Finding]:
    if facts.discovery is not None and facts.discovery.code:
        # It is the discovery that tells a setup node where nodes are: without it nobody is refused.
        return
    own = facts.public_key
    for key in peer.unreached:
        whose = "this node" if key == own else f"the neighbour {key[:8]}"
        yield Finding(
            "SETUP_NODE_REFUSED",
            f"setup node {peer.public_key[:8]} can install no rules on {whose}: it is not trusted there, or not let in",
            f"add {peer.public_key} to trusted_nodes of {key} and see that the setup node reaches its control address",
        )


def _peer(peer: PeerFact, who: str, code: str, key: str) -> Iterator[Finding]:
    if peer.code == "UNAUTHENTICATED":
        what = f"{who} at {peer.address} has another key than the config says"
        yield Finding(f"{code}_KEY_DIFFERS", what, f"correct {key} in the config: ask its operator for the key")
    elif peer.limit == disk.LIMIT:
        what = f"{who} at {peer.address} has no room on its disk: {peer.cause}"
        yield Finding(f"{code}_DISK_FULL", what, "free some room where it keeps its database; all recovers by itself")
    elif peer.code:
        what = f"{who} at {peer.address} cannot be asked: {peer.cause}"
        yield Finding(f"{code}_AWAY", what, f"start it, or correct {key} in the config; all recovers by itself")


def _rules(facts: Facts) -> Iterator[Finding]:
    if facts.summary is None:
        return
    if facts.summary["rules_orphaned"]:
        ids = [route_id(row["route_id"]) for row in facts.rules if row["lapses_in_s"] <= 0]
        what = f"{facts.summary['rules_orphaned']} rules were never finished and are past their lease"
        fix = Fix("drop", " ".join(ids)) if ids else None
        yield Finding("RULES_ORPHANED", what, f"skywire node rules remove {' '.join(ids[:8])}".rstrip(), fix)


def _fix(kind: str, path: Path) -> Fix:
    return Fix(kind, str(path))


_KEY = "static_secret_key_file"
_RESTART = "restart the node: changes of its file count from the next start"
_TRUST = "add the keys of setup nodes to trusted_nodes, restart"
_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _files,
    _running,
    _against_config,
    _apps,
    _discovery,
    _clocks,
    _transports,
    _setup_nodes,
    _rules,
)
