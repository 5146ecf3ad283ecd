#!/usr/bin/env python3
"""An app that knows the wiki's protocol and nothing else, and dials: `wiki_say KEY:PORT HEX` says HEX to the app there.

Blocking reads and writes on descriptors 3 and 4, one Send of 1,000 bytes at a time, `null` for an answer. Whatever
comes is printed as hex, until the other end closes.
"""

import base64
import json
import os
import struct
import sys

INIT, CREATE_LOOP, CONFIRM_LOOP, SEND, CLOSE, FAILURE, SUCCESS = 0, 1, 2, 3, 4, 0xFE, 0xFF


def write_frame(kind, number, body):
    data = struct.pack(">HBB", len(body) + 2, kind, number) + body
    while data:
        data = data[os.write(4, data) :]


def read_exactly(size):
    data = b""
    while len(data) < size:
        part = os.read(3, size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def serve_one():
    """Read a frame; answer it if it is a request, return it if it is an answer."""
    length, kind, number = struct.unpack(">HBB", read_exactly(4))
    body = read_exactly(length - 2)
    if kind in (SUCCESS, FAILURE):
        return kind, body
    write_frame(SUCCESS, number, b"null")
    if kind == SEND:
        said = base64.b64decode(json.loads(body)["payload"]).hex()
        for start in range(0, len(said), 2_000):  # a node cuts longer lines
            print(said[start : start + 2_000], flush=True)
    elif kind == CLOSE:
        print("closed", flush=True)
        sys.exit(0)
    return None


def request(kind, body):
    write_frame(kind, 0, json.dumps(body).encode())
    while (answer := serve_one()) is None:
        pass
    if answer[0] == FAILURE:
        sys.exit(answer[1].decode())
    return json.loads(answer[1] or b"null")


name, _, version = sys.argv[0].rpartition("/")[2].removesuffix(".py").partition(".v")
request(INIT, {"app-name": name, "app-version": version, "protocol-version": "0.0.1"})
key, _, port = sys.argv[1].partition(":")
remote = {"pk": key, "port": int(port)}
local = request(CREATE_LOOP, remote)
words = bytes.fromhex(sys.argv[2])
for start in range(0, len(words), 1_000):
    payload = base64.b64encode(words[start : start + 1_000]).decode()
    request(SEND, {"addr": {"port": local["port"], "remote": remote}, "payload": payload})
while True:
    serve_one()
