"""`make deploy-check`: everything in this folder, through the tools that would carry it out, without engine or cluster.

A tool that is not here is named and left out; its name in REQUIRED (CHECK_REQUIRED=promtool,…) makes that a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
OVERLAYS = ("local", "testnet", "production")
PROFILES = ("line", "mesh")
# From packages that are locked: there is no reason for them to be missing.
ALWAYS = ("docker-compose", "hadolint", "kubernetes-validate", "yamllint")
TIMEOUT_S = 120.0


class Check(NamedTuple):
    """One run of a tool; `manifests` is an overlay whose rendered form the tool is given as its last argument."""

    name: str
    command: Sequence[str]
    manifests: str = ""


def checks() -> Iterator[Check]:
    """Name what is to be checked."""
    compose = ("docker-compose", "-f", str(HERE / "compose.yaml"))
    for profile in PROFILES:
        command = (*compose, "--profile", profile, "--profile", "observe", "config", "-q")
        yield Check(f"compose.yaml, {profile}", command)
    for override in sorted((HERE / "failures").glob("*-*.yaml")):
        command = (*compose, "-f", str(override), "--profile", "mesh", "config", "-q")
        yield Check(f"compose.yaml, {override.stem}", command)
    yield Check("Dockerfile", ("hadolint", str(HERE / "Dockerfile")))
    yield Check("YAML", ("yamllint", "-s", "-c", str(HERE / "yamllint.yaml"), str(HERE)))
    for overlay in OVERLAYS:
        yield Check(f"manifests, {overlay}", ("kubernetes-validate", "--strict", "--no-warn", "--quiet"), overlay)
    observe = HERE / "observe"
    yield Check("alerts", ("promtool", "check", "rules", str(observe / "alerts.yaml")))
    yield Check("prometheus.yaml", ("promtool", "check", "config", str(observe / "prometheus.yaml")))


def run(check: Check) -> str:
    """Run a check; return what is wrong, or nothing."""
    if not check.manifests:
        return _run(check.command)
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(HERE / "kubernetes" / "overlays" / check.manifests)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if rendered.returncode:
        return rendered.stderr
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(rendered.stdout)
        file.flush()
        return _run((*check.command, file.name))


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout + done.stderr or f"exit code {done.returncode}" if done.returncode else ""


def main() -> int:
    """Run every check whose tools are here; return 1 if one failed or a required tool is missing."""
    required = {*ALWAYS, *filter(None, os.environ.get("CHECK_REQUIRED", "").split(","))}
    failed = False
    for check in checks():
        tools = (check.command[0], *(("kubectl",) if check.manifests else ()))
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            failed = failed or not required.isdisjoint(missing)
            print(f"{'MISSING' if not required.isdisjoint(missing) else 'left out'}  {check.name}: no {missing[0]}")
            continue
        wrong = run(check)
        failed = failed or bool(wrong)
        print(f"{'FAILED ' if wrong else 'ok     '}  {check.name}  ({' and '.join(tools)})")
        if wrong:
            print(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
