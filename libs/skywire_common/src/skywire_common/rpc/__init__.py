"""Calls between services: who calls, what went wrong, and the channel and server that both share."""
