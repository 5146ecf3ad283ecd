"""Many connections on one loop, each with windows of its own, framed as HTTP/2."""
