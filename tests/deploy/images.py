"""What the Dockerfile says of each image: environment, ports, entry point; a stage has what those before it have."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_ENV = re.compile(r"([A-Z][A-Z0-9_]*)=(\S*)")


@dataclass(frozen=True)
class Stage:
    """One stage of the Dockerfile."""

    environment: dict[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    health: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def stages() -> dict[str, Stage]:
    """Read the Dockerfile."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text()).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = replace(found.get(base, Stage()))
            continue
        if not name:
            continue
        stage = found[name]
        if word == "ENV":
            stage = replace(stage, environment=stage.environment | dict(_ENV.findall(rest)))
        elif word == "EXPOSE":
            stage = replace(stage, ports=(*stage.ports, *map(int, rest.split())))
        elif word == "ENTRYPOINT":
            stage = replace(stage, entrypoint=tuple(json.loads(rest)))
        elif word == "USER":
            stage = replace(stage, user=rest)
        elif word == "HEALTHCHECK":
            stage = replace(stage, health=tuple(json.loads(rest.partition("CMD ")[2])))
        elif word == "LABEL":
            stage = replace(stage, labels=(*stage.labels, *re.findall(r"(org\.[a-z.]+)=", rest)))
        found[name] = stage
    return found


def target_of(image: str) -> str:
    """Return the Dockerfile's target for "…skywire-discovery:tag"; empty for somebody else's image."""
    match = re.search(r"skywire-([a-z-]+)(?::.*)?$", image)
    return match[1] if match else ""
