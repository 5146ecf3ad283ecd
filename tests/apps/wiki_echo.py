#!/usr/bin/env python3
"""An app that knows the wiki's protocol and nothing else: every byte that comes goes back.

Blocking reads and writes on descriptors 3 and 4, one Send at a time, `null` for an answer. It takes its name and
version from the name of its file, `{app}.v{version}`.
"""

import json
import os
import struct
import sys

INIT, CREATE_LOOP, CONFIRM_LOOP, SEND, CLOSE, FAILURE, SUCCESS = 0, 1, 2, 3, 4, 0xFE, 0xFF
requests = []  # what the node asked while an answer was awaited


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


def read_frame():
    length, kind, number = struct.unpack(">HBB", read_exactly(4))
    return kind, number, read_exactly(length - 2)


def request(kind, body):
    """Ask the node and wait for its answer; requests of the node are kept for later."""
    write_frame(kind, 0, json.dumps(body).encode())
    while True:
        kind, number, answer = read_frame()
        if kind == SUCCESS:
            return True
        if kind == FAILURE:
            print("refused:", answer.decode(), flush=True)
            return False
        requests.append((kind, number, answer))


name, _, version = sys.argv[0].rpartition("/")[2].removesuffix(".py").partition(".v")
if not request(INIT, {"app-name": name, "app-version": version, "protocol-version": "0.0.1"}):
    sys.exit(1)
while True:
    kind, number, body = requests.pop(0) if requests else read_frame()
    write_frame(SUCCESS, number, b"null")
    if kind == SEND:
        request(SEND, json.loads(body))
    elif kind == CONFIRM_LOOP:
        print("a loop from", json.loads(body)[1]["pk"], flush=True)
