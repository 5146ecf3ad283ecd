"""Churn for as long as one likes (F28): loops opened and closed, links cut and restored, nodes started again, services
frozen for seconds.

    python -m soak.churn SECONDS [SEED]

Four nodes in a diamond, every process real. All bytes are compared. At the end, when everything is mended and leases
are over, each process holds what it held before: memory, tasks, descriptors; nodes no rule, reservation or loop.
The second node is the one that is killed and stopped; all other processes live through everything.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import shutil
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil
from skywire_cli.failures import CliError
from skywire_cli.testnet.plan import Link
from skywire_cli.testnet.process import Service
from skywire_cli.testnet.state import Status
from skywire_common.errors import Failure
from system.bed import AT_ONCE, LEASE, Bed, bed

DIAMOND = (Link(0, 1), Link(1, 3), Link(0, 2), Link(2, 3))
VICTIM = 1
SURVIVORS = (0, 2, 3)
AT_A_TIME = 6  # loops
SIZES = (0, 1, 1_000, 50_000, 400_000, 3_000_000)
WARM_UP = 20.0  # seconds until pools, caches and the heap have the size that the work needs
# Rules that a killed node took over its restart, for loops that are gone, end by this.
IDLE_LIMIT = 30.0
PATIENCE = 10.0
WATCH_EVERY = 5.0
SAY_EVERY = 300.0
MORE_MEMORY = 24 << 20  # bytes of a heap that the same work has broken into other pieces
MORE_TASKS = 8
MORE_DESCRIPTORS = 8


class Held(NamedTuple):
    """What one process holds; bytes, counts."""

    memory: int
    descriptors: int
    tasks: int

    def grown(self, before: Held) -> list[str]:
        """Name what is more than before, beyond what the same work may take."""
        bounds = Held(MORE_MEMORY, MORE_DESCRIPTORS, MORE_TASKS)
        both = zip(self._fields, before, self, bounds, strict=True)
        return [f"{name} {early} -> {late}" for name, early, late, bound in both if late > early + bound]


class Churn:
    """Everything that goes on at once, and what came of it."""

    def __init__(self, net: Bed, seed: int) -> None:
        self.net = net
        self.random = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.said: dict[str, str] = {}  # one cause for each code

    async def run(self, seconds: float, *, frost: bool = True) -> None:
        """Churn for so long; services freeze now and then if there is `frost`."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(self._open_loops(until))
            group.create_task(self._break_links(until))
            group.create_task(self._restart(until))
            if frost:
                group.create_task(self._freeze(until))
            group.create_task(self._watch_orphans(until))
            group.create_task(self._say_memory(until))

    async def warm_up(self, seconds: float) -> None:
        """Churn for so long, a while by each setup node alone.

        The first one of the config makes nearly all loops; without this the others would open the connections that
        they keep, to every node, when what they hold has been counted already.
        """
        setup_nodes = self.net.net.setup_nodes
        for only in setup_nodes:
            others = [service for service in setup_nodes if service is not only]
            for other in others:
                other.pause()
            try:
                await self.run(seconds / len(setup_nodes), frost=False)
            finally:
                for other in others:
                    other.resume()

    async def _say_memory(self, until: float) -> None:
        """Print now and then how much every process holds: what it ends with says nothing of the way there."""
        began = time.monotonic()
        while time.monotonic() + SAY_EVERY < until:
            await asyncio.sleep(SAY_EVERY)
            shown = ", ".join(f"{name} {one.memory >> 20}" for name, one in (await held(self.net)).items())
            print(f"after {time.monotonic() - began:.0f} s, MB: {shown}; loops: {self.ends.total()}", flush=True)

    async def _open_loops(self, until: float) -> None:
        while time.monotonic() < until:
            source, target = self.random.sample(range(4), 2)
            transfer = self.net.send(source, target, self.random.choice(SIZES))
            try:
                report = await transfer.done
                failure = report["failure"]
                got = await transfer.got() if failure else report["answer"]
            except OSError:  # an app of the node that was killed
                self.ends["app gone"] += 1
                await asyncio.sleep(0.1)
                continue
            end = Failure.parse(failure).code.value if failure else "arrived"
            self.ends[end] += 1
            self.said[end] = failure or ""
            # Whatever happened to the nodes: a loop that carried less than all of it says why.
            short = not failure and (got is None or got["received"] != report["sent"])
            if short or (got and not got.get("right", True)):
                self.wrong.append(f"{time.strftime('%H:%M:%S')} node {source} to {target}: {report} but {got}")
            if failure:
                await asyncio.sleep(0.1)

    async def _break_links(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self.random.uniform(0.2, 2))
            proxy = self.random.choice(list(self.net.proxies.values()))
            how = self.random.choice(("cut", "silent", "deaf", "slow"))
            self.broken[how] += 1
            if how == "cut":
                proxy.cut()
            elif how == "slow":
                proxy.there.delay = proxy.back.delay = 0.05
            else:
                (proxy.there if how == "deaf" else proxy.back).hold()
            await asyncio.sleep(self.random.uniform(0.1, 2))
            proxy.mend()

    async def _watch_orphans(self, until: float) -> None:
        """No rule outlives a set-up that failed by more than its lease, whatever else goes on."""
        while time.monotonic() < until:
            for index in SURVIVORS:
                node = self.net.nodes[index]
                orphaned = (await node.admin.summary()).rules_orphaned
                if orphaned:
                    self.wrong.append(f"{node.name}: {orphaned} rules orphaned")
            await asyncio.sleep(WATCH_EVERY)

    async def _freeze(self, until: float) -> None:
        """Freeze the discovery or a setup node for a while, now and then."""
        services = [self.net.net.discovery, *self.net.net.setup_nodes]
        while time.monotonic() < until:
            await asyncio.sleep(self.random.uniform(3, 15))
            service = self.random.choice(services)
            self.broken["frozen"] += 1
            service.pause()
            try:
                await asyncio.sleep(self.random.uniform(0.2, 6))
            finally:
                service.resume()

    async def _restart(self, until: float) -> None:
        node = self.net.nodes[VICTIM]
        while time.monotonic() + AT_ONCE < until:
            await asyncio.sleep(self.random.uniform(3, 12))
            if self.random.random() < 1 / 2:
                self.broken["killed"] += 1
                await node.kill()
            else:
                self.broken["stopped"] += 1
                code = await node.stop()
                if code != 0:
                    self.wrong.append(f"{node.name} stopped with {code}")
            await self._start(node)

    async def _start(self, node: Service) -> None:
        """Start it; once more if that lasted too long, as on a machine that stood still. One that ends is a bug."""
        try:
            await self.net.net.restart(node)
        except CliError:
            if node.state.status is not Status.STARTING:
                raise
            self.broken["slow to start"] += 1
            await node.kill()
            await self.net.net.restart(node)


async def held(net: Bed) -> dict[str, Held]:
    """Return what every process holds that lives through everything, the nodes' apps too."""
    alive = [service for service in net.net.services if service is not net.nodes[VICTIM]]
    found = await asyncio.gather(*(asyncio.to_thread(held_by, service) for service in alive))
    all_of_them = {service.name: one for service, one in zip(alive, found, strict=True)}
    for index in SURVIVORS:
        (app,) = await net.nodes[index].admin.apps()
        process = psutil.Process(app.pid)
        all_of_them[app.name] = Held(process.memory_info().rss, process.num_fds(), 0)
    return all_of_them


def held_by(service: Service) -> Held:
    """Return what one process holds."""
    process = psutil.Process(service.pid)
    tasks = 0.0
    if "metrics" in service.interfaces:
        with urllib.request.urlopen(f"http://{service.interfaces['metrics']}/metrics") as page:
            lines = page.read().decode().splitlines()
            (line,) = [line for line in lines if line.startswith("skywire_event_loop_tasks ")]
            tasks = float(line.rpartition(" ")[2])
    return Held(process.memory_info().rss, process.num_fds(), int(tasks))


async def quiet(net: Bed) -> None:
    """Mend everything and wait until leases are over; fails if a rule, reservation or loop is left."""
    await net.whole()
    await net.clean(max(LEASE, IDLE_LIMIT) + PATIENCE + 2 * AT_ONCE)


async def soak(seconds: float, seed: int) -> list[str]:
    """Churn and say on the way how it goes; return what is not as it should be."""
    limits = {"idle_limit_s": IDLE_LIMIT, "patience_s": PATIENCE}
    async with bed(4, DIAMOND, limits=limits) as net:
        churn = Churn(net, seed)
        print(f"seed {seed}: {WARM_UP:.0f} s to warm up, then {seconds:.0f} s", flush=True)
        try:
            await churn.warm_up(WARM_UP)
            await quiet(net)
            before = await held(net)
            await churn.run(seconds)
            await quiet(net)
            after = await held(net)
        except BaseException:
            keep_logs(net, seed)
            raise
        print("loops:", ", ".join(f"{count} {what}" for what, count in churn.ends.most_common()))
        for said in filter(None, churn.said.values()):
            print("    for example", said)
        print("broken:", ", ".join(f"{count} {what}" for what, count in churn.broken.most_common()))
        print(f"{'process':14}{'MB':>16}{'descriptors':>16}{'tasks':>16}")
        wrong = list(churn.wrong)
        for name, late in after.items():
            early = before[name]
            pairs = [(early.memory >> 20, late.memory >> 20), *zip(early[1:], late[1:], strict=True)]
            print(f"{name:14}" + "".join(f"{f'{one} -> {other}':>16}" for one, other in pairs))
            wrong += [f"{name}: {what}" for what in late.grown(early)]
        if not churn.ends["arrived"]:
            wrong.append("no loop carried anything")
        wrong += complaints(net)
        if wrong:
            keep_logs(net, seed)
        return wrong


def complaints(net: Bed) -> list[str]:
    """Return what processes logged as errors of their own: an exception that no code handled, whatever came of it."""
    found = []
    for service in net.net.services:
        for line in service.log.splitlines():
            if '"level":"error"' in line or '"level":"critical"' in line:
                said = json.loads(line)
                found.append(f"{service.name}: {said['event']} {said.get('exception', '')[-300:]}")
    return found


def keep_logs(net: Bed, seed: int) -> None:
    """Leave every process's log where it is found when the run is over."""
    place = Path("build") / f"soak-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    for service in net.net.services:
        shutil.copy(service.state.log, place)
    print(f"logs: {place}")


def main() -> None:
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    wrong = asyncio.run(soak(seconds, seed))
    for what in wrong:
        print("NOT SO:", what)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
