"""A discovery as a process of its own, for tests: started, asked, frozen, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from skywire_cli.testnet.process import shim_command
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey

START_S = 90.0
STOP_S = 20.0


class DiscoveryProcess:
    """`skywire-discovery` in a directory of its own; `start` returns once it is ready."""

    def __init__(
        self,
        directory: Path,
        database_url: str,
        name: str = "discovery",
        secret: SecretKey | None = None,
        **config: Any,
    ) -> None:
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.secret = secret or SecretKey.generate()
        key_file = self.directory / "key"
        key_file.touch(0o600)
        key_file.write_text(self.secret.to_bytes().hex())
        self.config = self.directory / "config.json"
        self.config.write_text(
            json.dumps({"secret_key_file": str(key_file), "database_url": database_url, "grace_s": 3} | config)
        )
        self.ready = self.directory / "ready.json"
        self.log = self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        # What the program is started by: for less rights, for example.
        self.through: list[str] = []
        self.grpc = self.http = ""

    @property
    def public(self) -> PublicKey:
        return self.secret.public

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def launch(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                # It ends with the tests, also if they are killed.
                [
                    *shim_command(os.getpid()),
                    *self.through,
                    self.executable(),
                    "--config",
                    str(self.config),
                    "--ready-file",
                    str(self.ready),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> DiscoveryProcess:
        """Start it and wait until it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, seconds: float = START_S) -> None:
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while not self.ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        interfaces = json.loads(self.ready.read_text())["interfaces"]
        self.grpc, self.http = interfaces["grpc"], interfaces["http"]

    def migrate(self) -> subprocess.Popen[bytes]:
        """Start `skywire-discovery migrate`."""
        return subprocess.Popen(
            [self.executable(), "migrate", "--config", str(self.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def migrated(self) -> None:
        """Migrate the schema, and wait."""
        migration = self.migrate()
        out, err = migration.communicate(timeout=START_S)
        assert migration.returncode == 0, (out, err)

    def stop(self) -> int:
        """Ask it to end and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_S)
        self.process = None
        return code

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_S)
            self.process = None

    @staticmethod
    def executable() -> str:
        return str(Path(sys.executable).parent / "skywire-discovery")
