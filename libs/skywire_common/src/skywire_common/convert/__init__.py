"""Protobuf messages to checked values and back; protobuf types stop here."""
