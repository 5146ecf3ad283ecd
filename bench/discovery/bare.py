"""The yardstick: a gRPC server that does nothing, in a process of its own. Prints its port."""

from __future__ import annotations

import grpc
import uvloop


async def main() -> None:
    """Answer every call with its own bytes until killed."""

    async def echo(request: bytes, _context: object) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
