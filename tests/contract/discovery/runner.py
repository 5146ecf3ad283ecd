"""Run the cases of cases.json against a discovery: `make contract TARGET=HOST:PORT [HTTP=HOST:PORT]`, or pytest.

The cases are data: what is asked by whom, and what must come back. They use new keys each time, so that they run
against any deployed discovery; what they leave are transports between keys that nobody has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
from contract.discovery.targets import PACKAGE, GrpcTarget, HttpTarget, Keys, Refused
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.keys import PublicKey

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases.json").read_text())
HOW = ("unsigned", "replayed", "nonce")
FORGERY = ("without", "forged", "id_of")


def applies(case: dict[str, Any], target: GrpcTarget | HttpTarget) -> bool:
    """Say whether the target has what the case asks for."""
    return case.get("only", target.name) == target.name


async def run(case: dict[str, Any], target: GrpcTarget | HttpTarget) -> None:
    """Run one case; raises AssertionError that names the step."""
    keys = Keys()
    for number, step in enumerate(case["steps"], 1):
        wanted = step.get("http" if target.name == "http" else "error")
        wanted = None if wanted in (200, 201) else wanted
        try:
            await Step(keys, target, step).run()
        except Refused as refused:
            assert refused.code == wanted, f"step {number} {step}: {refused}"
        except AssertionError as error:
            raise AssertionError(f"step {number} {step}: {error}") from error
        else:
            assert wanted is None, f"step {number} {step}: was not refused"


class Step:
    """One step of a case."""

    def __init__(self, keys: Keys, target: Any, step: dict[str, Any]) -> None:
        self.keys = keys
        self.target = target
        self.step = step
        self.expect = step.get("expect")
        self.by = keys[step["by"]] if "by" in step else None
        self.how = {name: step[name] for name in HOW if name in step}

    async def run(self) -> None:
        await getattr(self, f"do_{self.step['do']}")()

    async def do_register(self) -> None:
        forgery = {name: self.step[name] for name in FORGERY if name in self.step}
        entries = [self.keys.signed(text, **forgery) for text in self.step["entries"]]
        registered = await self.target.register(self.by, entries, **self.how)
        assert len(registered) == len(entries)
        assert all(at > 1_700_000_000 for at in registered)

    async def do_get(self) -> None:
        self._compare(self.expect or {}, await self.target.get(self.keys.entry(self.step["entry"]), by=self.by))

    async def do_list(self) -> None:
        found = await self.target.list(self.keys[self.step["of"]].public, by=self.by)
        assert sorted(one["t_id"] for one in found) == sorted(map(self._id, self.expect))

    async def do_say(self) -> None:
        words = [(self.keys.entry(text).transport_id, up) for text, up in self.step["up"].items()]
        found = await self.target.say(self.by, words, **self.how)
        assert [one["t_id"] for one in found] == [str(one) for one, _ in words]
        for wanted, one in zip(self.expect or [], found, strict=bool(self.expect)):
            self._compare(wanted, one)

    async def do_beat(self) -> None:
        more = {name: self.step[name] for name in ("previous", "stopping", "max_hops") if name in self.step}
        await self.target.beat(self.by, self.step["epoch"], **more)

    async def do_resolve(self) -> None:
        found = await self.target.resolve(self.keys[self.step["of"]].public)
        assert {name: found[name] for name in self.expect} == self.expect

    async def do_routes(self) -> None:
        more = {name: self.step[name] for name in ("min_hops", "max_hops", "count") if name in self.step}
        if "avoid_nodes" in self.step:
            more["avoid_nodes"] = [self.keys[name].public for name in self.step["avoid_nodes"]]
        if "avoid_transports" in self.step:
            more["avoid_transports"] = [
                self.keys.entry(text).transport_id.bytes for text in self.step["avoid_transports"]
            ]
        source, target = (self.keys[self.step[side]].public for side in ("from", "to"))
        found = await self.target.routes(source, target, **more)
        assert sorted([self.keys.name_of(key) for key in way] for way in found) == sorted(self.expect)

    async def do_reconcile(self) -> None:
        own = [(self.keys.signed(text), up) for text, up in self.step["up"].items()]
        done = await self.target.reconcile(self.by, own)
        assert (done.registered, done.corrected) == (self.expect["registered"], self.expect["corrected"])
        assert [one.entry.entry.transport_id for one in done.transports] == [
            signed.entry.transport_id.bytes for signed, _ in own
        ]
        assert [one.entry.entry.transport_id for one in done.unlisted] == [
            self.keys.entry(text).transport_id.bytes for text in self.expect["unlisted"]
        ]

    async def do_history(self) -> None:
        found = await self.target.history(self.keys.entry(self.step["entry"]))
        assert found == self.expect, found

    async def do_raw(self) -> None:
        await self.target.raw(self.step["method"], self.step["request"])

    async def do_nonce(self) -> None:
        assert await self.target.nonce(self.keys[self.step["of"]].public) == self.expect

    async def do_http(self) -> None:
        body = self.step.get("body", "").encode()
        if "body_size" in self.step:
            body = b" " * self.step["body_size"]
        if "items" in self.step:
            body = json.dumps([{"t_id": self._id("a-b"), "is_up": True}] * self.step["items"]).encode()
        await self.target.send(self.step["method"], self.step["path"], body, self.by)

    def _id(self, text: str) -> str:
        return str(self.keys.entry(text).transport_id)

    def _compare(self, wanted: dict[str, Any], found: dict[str, Any]) -> None:
        if "entry" in wanted:
            assert found["t_id"] == self._id(wanted["entry"])
        if "is_up" in wanted:
            assert found["is_up"] == wanted["is_up"]
        for name, up in wanted.get("statuses", {}).items():
            assert found["statuses"][bytes(self.keys[name].public)] == up


async def key_of(address: str) -> PublicKey:
    """Ask a discovery for its key: it is whom signed calls are for."""
    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            f"{PACKAGE}TransportDiscovery/GetStatus",
            request_serializer=pb.GetStatusRequest.SerializeToString,
            response_deserializer=pb.GetStatusResponse.FromString,
        )
        return PublicKey((await ask(pb.GetStatusRequest(), timeout=10)).build.public_key)


async def main(arguments: argparse.Namespace) -> int:
    """Run all cases and print a line for each; return how many failed."""
    targets: list[GrpcTarget | HttpTarget] = [GrpcTarget(arguments.target, await key_of(arguments.target))]
    if arguments.http:
        targets.append(HttpTarget(arguments.http))
    failed = 0
    for target in targets:
        for case in CASES:
            if not applies(case, target):
                continue
            try:
                await run(case, target)
            except AssertionError as error:
                failed += 1
                print(f"FAILED  {target.name:4}  {case['name']}\n        {error}")
            else:
                print(f"ok      {target.name:4}  {case['name']}")
        await target.close()
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the contract cases against a deployed discovery.")
    parser.add_argument("target", metavar="HOST:PORT", help="its gRPC interface")
    parser.add_argument("--http", metavar="HOST:PORT", help="its HTTP interface")
    sys.exit(1 if asyncio.run(main(parser.parse_args())) else 0)
