"""gRPC: protobuf to values and back, and one servicer per service."""
