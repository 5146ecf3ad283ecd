"""gRPC server reflection, v1 and v1alpha, complete enough for every question that grpcurl asks.

The package's servicer falls short in two ways, closed here: it serves v1alpha alone, and it does not know the symbols
of methods (`grpcurl describe package.Service.Method`). Both versions have the same messages on the wire, so v1 is the
same servicer under another name, with a descriptor of its own to be described by.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
_METHOD = "ServerReflectionInfo"
_V1_FILE = "grpc/reflection/v1/reflection.proto"


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Answers about the services named at construction, and about every message that this process knows."""

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        answer = super()._file_containing_symbol(request, fully_qualified_name)
        parent, _, name = fully_qualified_name.rpartition(".")
        if answer.HasField("error_response") and _has_member(parent, name):
            return super()._file_containing_symbol(request, parent)
        return answer


def add_to_server(services: list[str], server: grpc.aio.Server) -> None:
    """Serve reflection of the given services and of itself, in both versions."""
    _describe_v1()
    servicer = Reflection([*services, V1, V1ALPHA])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, {_METHOD: handler}) for service in (V1, V1ALPHA))
    )


def methods() -> list[str]:
    """Return the full names of the methods that `add_to_server` adds."""
    return [f"/{service}/{_METHOD}" for service in (V1, V1ALPHA)]


def _has_member(parent: str, name: str) -> bool:
    """Say whether `parent` is a service with such a method, or a message with such a field."""
    pool = descriptor_pool.Default()
    for find, members in (
        (pool.FindServiceByName, ("methods_by_name",)),
        (pool.FindMessageTypeByName, ("fields_by_name", "oneofs_by_name")),
    ):
        try:
            descriptor = find(parent)
        except KeyError:
            continue
        return any(name in getattr(descriptor, kind) for kind in members)
    return False


def _describe_v1() -> None:
    """Add the file of v1 to the pool: v1alpha's under its other name."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name = _V1_FILE
        file.package = "grpc.reflection.v1"
        for message in file.message_type:
            for field in message.field:
                if not field.type_name:  # a scalar; assigning even the empty name would make it a message
                    continue
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
        for method in file.service[0].method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
        pool.AddSerializedFile(file.SerializeToString())
