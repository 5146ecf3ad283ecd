#!/usr/bin/env python3
"""The wiki's echo with one fault: `broken FAULT`. Each is what a case of the conformance kit is there to find."""

import json
import os
import signal
import struct
import sys
import time

INIT, CREATE_LOOP, CONFIRM_LOOP, SEND, CLOSE, FAILURE, SUCCESS = 0, 1, 2, 3, 4, 0xFE, 0xFF
FAULT = sys.argv[1]
DIALS = FAULT in ("dial-crash", "closed-dial-crash")
requests = []


def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


if FAULT == "outlives-garbage":
    sys.excepthook = lambda *_: hang()


def write_frame(kind, number, body):
    data = struct.pack(">HBB", len(body) + 2, kind, number) + body
    if FAULT == "short-writes":
        os.set_blocking(4, False)
        os.write(4, data)
        return
    try:
        while data:
            data = data[os.write(4, data) :]
    except BrokenPipeError:
        hang() if FAULT in ("outlives-reader", "outlives-garbage") else sys.exit(1)


def read_exactly(size):
    data = b""
    while len(data) < size:
        part = os.read(3, size - len(data))
        if not part:
            hang() if FAULT in ("outlives-node", "outlives-garbage") else sys.exit(0)
        if FAULT == "whole-frames-only" and len(part) < size:
            raise ValueError("half a frame")
        data += part
    return data


def read_frame():
    length, kind, number = struct.unpack(">HBB", read_exactly(4))
    if length < 2:
        hang() if FAULT == "outlives-garbage" else sys.exit(1)
    body = read_exactly(length - 2)
    if kind == SUCCESS and FAULT == "needs-null" and body != b"null":
        os.abort()
    if kind == SUCCESS and FAULT == "needs-empty" and body:
        os.abort()
    if FAULT == "small-frames" and length > 60_000:
        os.abort()
    return kind, number, body


def request(kind, body, number=0):
    write_frame(kind, number, json.dumps(body).encode())
    if FAULT == "same-id" and kind == SEND:
        write_frame(kind, number, json.dumps(body).encode())
    while True:
        kind, number, answer = read_frame()
        if kind == SUCCESS:
            return True
        if kind == FAILURE:
            if FAULT == "refusal-crash":
                os.abort()
            if FAULT == "ignores-refusal":
                hang()
            return False
        requests.append((kind, number, answer))


name, _, version = sys.argv[0].rpartition("/")[2].partition(".v")
if FAULT == "sigterm-deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if FAULT == "sends-first":
    write_frame(CREATE_LOOP, 1, b'{"pk":"02' + b"11" * 32 + b'","port":1}')
if FAULT == "wrong-name":
    name = "another"
more = {"claims-window": {"window": 8}, "claims-half-close": {"half_close": True}}.get(FAULT, {})
if not request(INIT, {"app-name": name, "app-version": version, "protocol-version": "0.0.1", **more}):
    sys.exit(1)
if DIALS:
    pk, _, port = sys.argv[2].partition(":")
    write_frame(CREATE_LOOP, 0, json.dumps({"pk": pk, "port": int(port)}).encode())
known = set()
confirmed = 0
while True:
    kind, number, body = requests.pop(0) if requests else read_frame()
    if FAULT == "dial-crash" and kind == FAILURE:
        os.abort()
    if DIALS and kind == SUCCESS:
        continue
    if FAULT == "answers-twice" and kind == CONFIRM_LOOP:
        write_frame(SUCCESS, number, b"null")
    if FAULT == "answers-with-zero":
        number = 0
    if FAULT == "answers-with-a-body" and kind == SEND:
        write_frame(SUCCESS, number, b'{"taken":true}')
        continue
    if FAULT == "no-second-send" and kind == SEND:
        confirmed += 1
        if confirmed > 1:
            continue
    if FAULT == "one-loop-ever" and kind == CONFIRM_LOOP:
        confirmed += 1
        if confirmed > 1:
            continue
    if FAULT == "text-of-json" and kind == SEND and not body.startswith(b'{"addr":{"port":'):
        write_frame(FAILURE, number, b"what?")
        continue
    if FAULT == "no-empty-sends" and kind == SEND and not json.loads(body)["payload"]:
        continue
    if FAULT == "mute-after-close" and kind == SEND and "closed" in known:
        continue
    if FAULT == "hangs-on-strangers" and kind in (SEND, CLOSE) and "open" not in known:
        hang()
    if FAULT == "json-hang" and kind == SEND:
        try:
            json.loads(body)
        except ValueError:
            hang()
    if FAULT == "unknown-crash" and kind not in (CONFIRM_LOOP, SEND, CLOSE):
        os.abort()
    if FAULT == "closed-dial-crash" and kind == CLOSE:
        os.abort()
    if FAULT == "claims-window" and kind == SEND:
        confirmed += 1
        if confirmed == 3:
            continue
    if FAULT == "claims-half-close" and kind == CLOSE and json.loads(body).get("half"):
        os.abort()
    if FAULT == "base64-crash" and kind == SEND and "!" in json.loads(body)["payload"]:
        os.abort()
    if kind == CONFIRM_LOOP:
        known.add("open")
    if kind == CLOSE:
        known.add("closed")
    write_frame(SUCCESS, number, b"null")
    if kind == SEND:
        said = json.loads(body)
        if FAULT == "bad-base64":
            said["payload"] = "???"
        if FAULT == "sends-elsewhere":
            said["addr"]["remote"]["port"] += 1
        request(SEND, said, 255 if FAULT == "id-255" else 0)
