"""Everything that grpcurl asks works: list, describe down to a method, call, health, over TCP and unix sockets."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from skywire_common.rpc import reflection

from .conftest import SERVICE, World

GRPCURL = Path(sys.executable).parent / "grpcurl"


async def grpcurl(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        GRPCURL, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_list_names_every_service(world: World) -> None:
    code, out, _ = await grpcurl(world.address, "list")
    assert code == 0
    assert out.split() == ["grpc.health.v1.Health", reflection.V1, reflection.V1ALPHA, SERVICE]
    _, out, _ = await grpcurl(world.address, "list", SERVICE)
    assert f"{SERVICE}.Watch" in out.split()


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        (SERVICE, "service Tiny {"),
        (f"{SERVICE}.Open", "rpc Open ( .google.protobuf.StringValue ) returns ( .google.protobuf.StringValue );"),
        (f"{SERVICE}.Watch", "returns ( stream .google.protobuf.StringValue )"),
        ("google.protobuf.StringValue", "message StringValue {"),
        ("google.protobuf.StringValue.value", "string value = 1;"),
        ("skywire.common.v1.ErrorDetail", "message ErrorDetail {"),
        ("skywire.common.v1.Phase", "enum Phase {"),
        ("grpc.health.v1.Health.Check", "rpc Check"),
        (reflection.V1, "service ServerReflection {"),
        (f"{reflection.V1}.ServerReflectionInfo", "( stream .grpc.reflection.v1.ServerReflectionRequest )"),
        (f"{reflection.V1ALPHA}.ServerReflectionInfo", "( stream .grpc.reflection.v1alpha.ServerReflectionRequest )"),
    ],
)
async def test_describe_finds(world: World, symbol: str, shown: str) -> None:
    code, out, err = await grpcurl(world.address, "describe", symbol)
    assert code == 0, err
    assert shown in out


@pytest.mark.parametrize("symbol", [f"{SERVICE}.Missing", "no.such.Symbol", "nothing"])
async def test_describe_says_what_it_does_not_find(world: World, symbol: str) -> None:
    code, _, err = await grpcurl(world.address, "describe", symbol)
    assert code != 0
    assert symbol in err


async def test_calls_work(world: World) -> None:
    code, out, err = await grpcurl("-d", '"hello"', world.address, f"{SERVICE}/Open")
    assert code == 0, err
    assert json.loads(out) == "hello"
    path = world.socket.removeprefix("unix:")
    code, out, err = await grpcurl("-unix", "-d", '"local"', path, f"{SERVICE}/Local")
    assert code == 0, err
    assert json.loads(out) == "local"
    code, out, _ = await grpcurl(world.address, "grpc.health.v1.Health/Check")
    assert json.loads(out) == {"status": "SERVING"}


async def test_a_refusal_is_shown_with_its_detail(world: World) -> None:
    code, _, err = await grpcurl("-d", '"hello"', world.address, f"{SERVICE}/Signed")
    assert code != 0
    assert "Unauthenticated" in err
    assert "skywire.common.v1.ErrorDetail" in err
    assert "skywire-identity-bin" in err


@pytest.mark.parametrize("version", [reflection.V1, reflection.V1ALPHA])
async def test_both_versions_answer_alike(world: World, version: str) -> None:
    async with grpc.aio.insecure_channel(world.address) as channel:
        ask = channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = ask(
            iter(
                [
                    reflection_pb2.ServerReflectionRequest(list_services=""),
                    reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICE}.Open"),
                    reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICE}.Missing"),
                ]
            ),
            timeout=20,
        )
        listed, found, missing = [answer async for answer in call]
    assert SERVICE in [service.name for service in listed.list_services_response.service]
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in found.file_descriptor_response.file_descriptor_proto
    ]
    assert files[0].name == "skywire/tests/v1/tiny.proto"
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
