"""An agent's end of the control line: say who it is, then answer questions until the line ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

Answers = Mapping[str, Callable[..., dict[str, Any]]]


def serve(path: str, name: str, answers: Answers) -> None:
    """Answer on this thread; a question is `{"do": name, ...arguments}`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        line.sendall(hello(name))
        for question in line.makefile("rb"):
            asked = json.loads(question)
            try:
                answer = answers[asked.pop("do")](**asked)
            except OSError as error:
                answer = {"error": str(error)}
            line.sendall(json.dumps(answer).encode() + b"\n")


def hello(name: str) -> bytes:
    """Return an agent's first line."""
    return json.dumps({"name": name, "pid": os.getpid()}).encode() + b"\n"


def quantile(samples: list[float], share: float) -> float:
    """Return the value below which that share of the samples lies."""
    return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]
