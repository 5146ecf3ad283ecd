"""Run the cases against what is deployed: `make contract-all DISCOVERY=host:port SETUP_NODE=host:port …`.

The cases use new keys each time; those that need a setup node's key, or the owner's socket, run where these are given.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from contract.everything.casebook import BOOKS
from contract.everything.running import refusals, run
from contract.everything.targets import Targets, deployed
from skywire.common.v1 import process_pb2 as pb
from skywire_common.curve import SecretKey
from skywire_common.rpc.client import RpcChannel


async def key_of(address: str) -> bytes:
    """Ask a service for its key: it is whom signed calls are for."""
    channel = RpcChannel(address, None, None)
    try:
        said = await channel.call(
            "/skywire.common.v1.Process/GetBuildInfo",
            pb.GetBuildInfoRequest(),
            pb.GetBuildInfoResponse,
            timeout=10,
            signed=False,
        )
        return said.build.public_key
    finally:
        await channel.close()


async def check(targets: Targets) -> int:
    """Run everything that can run against these targets, a line for each; return how many failed."""
    failed = 0
    for (name, service), target in targets.items():
        for case in BOOKS[service]["cases"]:
            title = f"{name}  {service.rpartition('.')[2]}  {case['name']}"
            if not target.runs(case):
                print(f"left out  {title}: needs {', '.join(case['needs'])}")
                continue
            try:
                await run(service, case, target)
            except AssertionError as error:
                failed += 1
                print(f"FAILED    {title}\n          {error}")
            else:
                print(f"ok        {title}")
        for wrong in await refusals(service, target):
            failed += 1
            print(f"FAILED    {name}  {wrong}")
    return failed


async def main(arguments: argparse.Namespace) -> int:
    """Find the keys and run."""
    places = {name: value for name in ("discovery", "setup_node", "control") if (value := getattr(arguments, name))}
    audiences = {name: await key_of(address) for name, address in places.items()}
    keys = {"setup_node": SecretKey.load(arguments.setup_node_key)} if arguments.setup_node_key else {}
    if arguments.admin:
        places["admin"] = f"unix:{arguments.admin.absolute()}"
    return await check(deployed(places, keys, audiences))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the contract cases of every service against what is deployed.")
    parser.add_argument("--discovery", metavar="HOST:PORT")
    parser.add_argument("--setup-node", metavar="HOST:PORT")
    parser.add_argument("--control", metavar="HOST:PORT", help="a node's NodeControl")
    parser.add_argument("--admin", type=Path, metavar="FILE", help="the same node's owner's socket")
    parser.add_argument("--setup-node-key", type=Path, metavar="FILE", help="of a setup node that this node trusts")
    sys.exit(1 if asyncio.run(main(parser.parse_args())) else 0)
