"""A line of nodes with its services, every process real, and the bench's apps on the first node and on others."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Plan, Topology, links

from bench.agents.overlay import NAME, VERSION
from bench.control import Agent, Control
from bench.flows import Pair
from bench.processes import environment
from bench.run import Run

SERVER_PORT, MESSAGES_PORT, DIALLER_PORT = 30, 31, 32


@dataclass(frozen=True)
class Line:
    """Nodes 1 to N; `servers` and `messages` by the number of their node."""

    net: Testnet
    dialler: Agent
    servers: dict[int, Agent]
    messages: dict[int, Agent]

    def pair(self, node: int) -> Pair:
        """Return the app on the first node and the one on node `node`, which counts bytes."""
        return self._pair(node, self.servers[node], SERVER_PORT)

    def message_pair(self, node: int) -> Pair:
        """Return the same with the app that reads messages."""
        return self._pair(node, self.messages[node], MESSAGES_PORT)

    def _pair(self, node: int, server: Agent, port: int) -> Pair:
        between = {f"node{passed.number}": passed.pid for passed in self.net.nodes[:node]}
        return Pair(self.dialler, server, f"{self.net.nodes[node - 1].public_key}:{port}", between)

    @property
    def services(self) -> dict[str, int]:
        """The processes of the control plane."""
        return {service.name: service.pid for service in (self.net.discovery, *self.net.setup_nodes)}


async def line(run: Run, nodes: int, serving: Iterable[int] = ()) -> Line:
    """Return a line of so many nodes, with servers on the nodes `serving` (the last one if none is named)."""
    return await run.shared(f"line of {nodes}", lambda: _line(run, nodes, tuple(serving) or (nodes,)))


async def _line(run: Run, nodes: int, serving: tuple[int, ...]) -> Line:
    control = await Control.open(run)
    run.say(f"starting a discovery, a setup node and {nodes} nodes in a line")

    def app(role: str, number: int, port: int) -> AppPlan:
        command = (sys.executable, "-m", "bench.agents.overlay")
        name = f"{role} {number} of {nodes}"
        arguments = (role, str(control.path), name)
        return AppPlan(NAME[role], VERSION, port, command, arguments, True, {"PYTHONPATH": environment()["PYTHONPATH"]})

    apps: dict[int, tuple[AppPlan, ...]] = {0: (app("dial", 1, DIALLER_PORT),)}
    for number in serving:
        served = (app("serve", number, SERVER_PORT), app("messages", number, MESSAGES_PORT))
        apps[number - 1] = (*apps.get(number - 1, ()), *served)
    plan = Plan(nodes, links(nodes, Topology.LINE), apps=apps, log_level="warning")
    net = Testnet(plan, run.directory / f"line{nodes}", shape=f"line of {nodes}")
    await net.up()
    run.defer(net.down)
    return Line(
        net,
        await control.agent(f"dial 1 of {nodes}"),
        {number: await control.agent(f"serve {number} of {nodes}") for number in serving},
        {number: await control.agent(f"messages {number} of {nodes}") for number in serving},
    )
