"""The original's HTTP API (wire.md, HTTP of the transport discovery), beside gRPC in the same process."""
