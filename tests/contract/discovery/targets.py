"""The two ways to reach a discovery, with the same verbs: gRPC and the original's HTTP. Failures carry both codes."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from uuid import UUID

import httpx
from google.protobuf import json_format
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert.entries import signed_entries_to, signed_entry_to
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry, entry_to_dict
from skywire_common.errors import Failure
from skywire_common.http_auth import signed_payload
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel

PACKAGE = "/skywire.transport_discovery.v1."
TIMEOUT_S = 30.0  # the first request over HTTP has the schema made; the machine may be busy


class Refused(Exception):
    """The target said no: a gRPC error code's name, or an HTTP status and its body."""

    def __init__(self, code: str | int, body: Any = None) -> None:
        super().__init__(code, body)
        self.code = code
        self.body = body


class Keys:
    """The keys of one case by name: new ones each time, so that a case runs against any registry."""

    def __init__(self) -> None:
        self._secrets: dict[str, SecretKey] = {}

    def __getitem__(self, name: str) -> SecretKey:
        return self._secrets.setdefault(name, SecretKey.generate())

    def name_of(self, key: bytes) -> str:
        self["a"]
        return next((name for name, secret in self._secrets.items() if secret.public == key), key.hex())

    def entry(self, text: str) -> Entry:
        """Read "a-b", "a-b/messaging" or "a-b/tcp/private"."""
        edges, *rest = text.split("/")
        first, second = edges.split("-")
        kind = rest[0] if rest else "tcp"
        return Entry.between(self[first].public, self[second].public, kind, rest[1:] != ["private"])

    def signed(self, text: str, without: str = "", forged: str = "", id_of: str = "") -> SignedEntry:
        """Sign an entry by both edges, unless something shall be wrong."""
        entry = self.entry(text)
        if id_of:
            entry = entry._replace(transport_id=self.entry(id_of).transport_id)
        signed = SignedEntry.unsigned(entry)
        for edge in entry.edges:
            name = self.name_of(edge)
            if name == forged:
                signature = SecretKey.generate().sign(entry.to_sign())
                at = entry.edges.index(edge)
                signed = signed._replace(
                    signatures=(signature, signed.signatures[1]) if at == 0 else (signed.signatures[0], signature)
                )
            elif name != without:
                signed = signed.sign(self[name])
        return signed


class GrpcTarget:
    """A discovery's gRPC interface at "host:port"."""

    name = "grpc"

    def __init__(self, address: str, audience: PublicKey) -> None:
        self._address = address
        self._audience = audience
        self._channels: dict[bytes, RpcChannel] = {}

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def call(
        self, method: str, request: Any, answer: Any, by: SecretKey | None = None, replayed: bool = False
    ) -> Any:
        secret = by or SecretKey.generate()
        if replayed:
            # The same time and random bytes twice: the same call, byte for byte.
            now, random = time.time(), secrets.token_bytes(16)
            channel = RpcChannel(
                self._address, self._audience, secret, clock=lambda: now, randomness=lambda _size: random
            )
        else:
            channel = self._channels.setdefault(
                bytes(secret.public) if by else b"", RpcChannel(self._address, self._audience, secret)
            )
        try:
            for _ in range(2 if replayed else 1):
                found = await channel.call(PACKAGE + method, request, answer, timeout=TIMEOUT_S, signed=by is not None)
            return found  # noqa: TRY300
        except Failure as failure:
            raise Refused(failure.code.value, failure) from failure
        finally:
            if replayed:
                await channel.close()

    async def register(self, by: SecretKey, entries: list[SignedEntry], **how: Any) -> list[int]:
        request = pb.RegisterTransportsRequest(entries=signed_entries_to(entries))
        answer = await self._write(
            "TransportDiscovery/RegisterTransports", request, pb.RegisterTransportsResponse, by, how
        )
        return [entry.registered for entry in answer.entries]

    async def get(self, entry: Entry, by: SecretKey | None = None) -> dict[str, Any]:
        request = pb.GetTransportRequest(transport_id=entry.transport_id.bytes)
        answer = await self.call("TransportDiscovery/GetTransport", request, pb.GetTransportResponse)
        return _status(answer.transport)

    async def list(self, of: PublicKey, by: SecretKey | None = None) -> list[dict[str, Any]]:
        request = pb.ListTransportsByEdgeRequest(edge=of)
        answer = await self.call("TransportDiscovery/ListTransportsByEdge", request, pb.ListTransportsByEdgeResponse)
        return [_status(transport) for transport in answer.transports]

    async def say(self, by: SecretKey, statuses: list[tuple[UUID, bool]], **how: Any) -> list[dict[str, Any]]:
        request = pb.UpdateStatusesRequest(
            statuses=[pb.UpdateStatusesRequest.Status(transport_id=one.bytes, is_up=up) for one, up in statuses]
        )
        answer = await self._write("TransportDiscovery/UpdateStatuses", request, pb.UpdateStatusesResponse, by, how)
        return [_status(transport) for transport in answer.transports]

    async def beat(
        self, by: SecretKey, epoch: int, previous: int = 0, stopping: bool = False, max_hops: int = 0
    ) -> None:
        request = pb.RegisterNodeRequest(
            endpoints=[pb.Endpoint(kind="tcp", address="198.51.100.1:7777")],
            epoch=epoch,
            previous_epoch=previous,
            stopping=stopping,
            max_hops=max_hops,
        )
        await self.call("NodeDirectory/RegisterNode", request, pb.RegisterNodeResponse, by)

    async def resolve(self, of: PublicKey) -> dict[str, Any]:
        request = pb.ResolveNodeRequest(public_key=of)
        answer = await self.call("NodeDirectory/ResolveNode", request, pb.ResolveNodeResponse)
        return {"alive": answer.alive, "epoch": answer.epoch, "address": answer.endpoints[0].address}

    async def routes(self, source: PublicKey, target: PublicKey, **more: Any) -> list[list[bytes]]:
        request = pb.FindRoutesRequest(from_key=source, to_key=target, **more)
        answer = await self.call("RouteFinder/FindRoutes", request, pb.FindRoutesResponse)
        ways = []
        for pair in answer.routes:
            forward = [pair.forward.hops[0].from_key, *(hop.to_key for hop in pair.forward.hops)]
            back = [pair.reverse.hops[0].from_key, *(hop.to_key for hop in pair.reverse.hops)]
            assert back == forward[::-1]
            ways.append(forward)
        return ways

    async def reconcile(self, by: SecretKey, own: list[tuple[SignedEntry, bool]]) -> pb.ReconcileTransportsResponse:
        request = pb.ReconcileTransportsRequest(
            transports=[
                pb.ReconcileTransportsRequest.Own(entry=signed_entry_to(signed), is_up=up) for signed, up in own
            ]
        )
        return await self.call("TransportDiscovery/ReconcileTransports", request, pb.ReconcileTransportsResponse, by)  # type: ignore[no-any-return]

    async def history(self, entry: Entry) -> list[list[Any]]:
        request = pb.GetTransportRequest(transport_id=entry.transport_id.bytes, with_history=True)
        answer = await self.call("TransportDiscovery/GetTransport", request, pb.GetTransportResponse)
        return [[pb.StateChange.Cause.Name(change.cause), change.is_up] for change in answer.history]

    async def raw(self, method: str, request: dict[str, Any]) -> None:
        service, _, name = method.partition("/")
        described = pb.DESCRIPTOR.services_by_name[service].methods_by_name[name]
        message = getattr(pb, described.input_type.name)()
        await self.call(method, json_format.ParseDict(request, message), getattr(pb, described.output_type.name))

    async def _write(self, method: str, request: Any, answer: Any, by: SecretKey, how: dict[str, Any]) -> Any:
        return await self.call(
            method, request, answer, None if how.get("unsigned") else by, replayed=how.get("replayed", False)
        )


def _status(message: pb.TransportStatus) -> dict[str, Any]:
    entry = message.entry.entry
    return {
        "t_id": str(UUID(bytes=entry.transport_id)),
        "is_up": message.is_up,
        "statuses": {bytes(edge): one.is_up for edge, one in zip(entry.edges, message.statuses, strict=True)},
    }


class HttpTarget:
    """A discovery's HTTP interface at "host:port", used as an original client does."""

    name = "http"

    def __init__(self, address: str) -> None:
        self.client = httpx.AsyncClient(base_url=f"http://{address}", timeout=TIMEOUT_S)

    async def close(self) -> None:
        await self.client.aclose()

    async def nonce(self, of: PublicKey) -> int:
        answer = await self.client.get(f"/security/nonces/{of}")
        assert answer.json().keys() == {"edge", "next_nonce"}
        return int(answer.json()["next_nonce"])

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        by: SecretKey | None = None,
        nonce: int | None = None,
        **how: Any,
    ) -> httpx.Response:
        headers = {}
        if by is not None and not how.get("unsigned"):
            used = await self.nonce(by.public) if nonce is None else nonce
            headers = {
                "SW-Public": str(by.public),
                "SW-Nonce": str(used),
                "SW-Sig": by.sign(signed_payload(body, used)).hex(),
            }
        for _ in range(2 if how.get("replayed") else 1):
            answer = await self.client.request(method, path, content=body, headers=headers)
        if answer.is_success:
            return answer
        said = answer.json()
        assert said.keys() == {"error"}, "every error has one form"
        if headers and answer.status_code == 401:
            assert said == {"error": {"message": "SW-Nonce does not match", "code": 401}}
        raise Refused(answer.status_code, said)

    async def register(self, by: SecretKey, entries: list[SignedEntry], **how: Any) -> list[int]:
        body = b"[" + b",".join(entry.to_json() for entry in entries) + b"]"
        answer = await self.send("POST", "/transports/", body, by, **how)
        assert answer.status_code == 201
        documents = answer.json()
        for document, entry in zip(documents, entries, strict=True):
            assert document["entry"] == entry_to_dict(entry.entry)
        return [document["registered"] for document in documents]

    async def get(self, entry: Entry, by: SecretKey | None = None) -> dict[str, Any]:
        return _document((await self.send("GET", f"/transports/id:{entry.transport_id}", by=by)).json())

    async def list(self, of: PublicKey, by: SecretKey | None = None) -> list[dict[str, Any]]:
        return [_document(one) for one in (await self.send("GET", f"/transports/edge:{of}", by=by)).json()]

    async def say(self, by: SecretKey, statuses: list[tuple[UUID, bool]], **how: Any) -> list[dict[str, Any]]:
        body = json.dumps([{"t_id": str(one), "is_up": up} for one, up in statuses]).encode()
        return [_document(one) for one in (await self.send("POST", "/statuses", body, by, **how)).json()]


def _document(document: dict[str, Any]) -> dict[str, Any]:
    assert list(document) == ["entry", "is_up", "registered", "statuses"]
    assert document["registered"] > 0
    edges = map(bytes.fromhex, document["entry"]["edges"])
    return {
        "t_id": document["entry"]["t_id"],
        "is_up": document["is_up"],
        "statuses": dict(zip(edges, document["statuses"], strict=True)),
    }
