"""The original's HTTP API (docs/discovery.md), beside gRPC in the same process."""
