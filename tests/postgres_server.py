"""A PostgreSQL of the tests' own: the system's binaries, a directory of its own, a unix socket, no fsync.

`PostgresServer.find()` returns the folder of the binaries or None (Debian: apt-get install postgresql-15).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

START_S = 30
_SHARED: list[PostgresServer] = []
OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=100",
    "logging_collector=off",
    "autovacuum=on",
)


class PostgresServer:
    """Started by `start`; `stop`, `freeze` and `thaw` do to it what failures do."""

    def __init__(self) -> None:
        binaries = self.find()
        if binaries is None:
            raise FileNotFoundError("no PostgreSQL on this machine: apt-get install postgresql-15")
        self.binaries = binaries
        self.root = Path(tempfile.mkdtemp(prefix="skywire-pg-"))
        self.data = self.root / "data"
        # It ends with the tests, also if they are killed.
        self._as = ["setpriv", "--pdeathsig", "QUIT"]
        if os.getuid() == 0:
            # PostgreSQL refuses to run as root.
            user = next(name for name in ("postgres", "nobody") if _exists(name))
            self._as += [f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
            shutil.chown(self.root, user)
        self._process: subprocess.Popen[bytes] | None = None
        self._template: str | None = None
        self._run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", self.data)

    @classmethod
    def shared(cls) -> PostgresServer:
        """Return the one that all tests share, started once; whoever stops or freezes one makes his own."""
        if not _SHARED:
            if cls.find() is None and not os.environ.get("CI"):
                # A newcomer's machine need not have one; what lands has been tried on both databases.
                pytest.skip("no PostgreSQL on this machine: apt-get install postgresql to run these tests")
            server = cls()
            atexit.register(server.close)
            server.start()
            _SHARED.append(server)
        return _SHARED[0]

    @staticmethod
    def find() -> Path | None:
        """Return the folder of the newest installed PostgreSQL's binaries."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
        on_path = shutil.which("postgres")
        return found[-1].parent if found else Path(on_path).parent if on_path else None

    @property
    def pid(self) -> int:
        """The process that the others are children of."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [part for option in (*OPTIONS, f"unix_socket_directories={self.root}") for part in ("-c", option)]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as, str(self.binaries / "postgres"), "-D", str(self.data), *settings],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.root / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, *, at_once: bool = False) -> None:
        """End it: cutting all sessions off in order, or (at once) as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def freeze(self) -> None:
        """Stop every process of it where it stands (SIGSTOP)."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def revive(self) -> None:
        """Have it run, whatever was done to it."""
        if self._process is None:
            self.start()
        else:
            self.thaw()

    def close(self) -> None:
        """End it and remove its directory."""
        if self._process is not None:
            self.thaw()
        self.stop(at_once=True)
        shutil.rmtree(self.root)

    def dsn(self, database: str) -> str:
        return f"host={self.root} user=postgres dbname={database}"

    def url(self, database: str) -> str:
        """Return the URL as the discovery's config wants it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.root}"

    @contextlib.contextmanager
    def database(self, template: str = "template0", encoding: str = "UTF8") -> Iterator[str]:
        """Make a database, empty or as the template is, yield its name, drop it."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING '{encoding}'")
        try:
            yield name
        finally:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def discovery_template(self) -> str:
        """Return a database with the discovery's newest schema, to copy."""
        if self._template is None:
            with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
                admin.execute("CREATE DATABASE discovery_template")
            script = (
                "import asyncio, sys; from skywire_transport_discovery.command import upgrade; "
                "asyncio.run(upgrade(sys.argv[1]))"
            )
            subprocess.run([sys.executable, "-c", script, self.url("discovery_template")], check=True)
            self._template = "discovery_template"
        return self._template

    def cut(self, database: str) -> int:
        """Cut every session of a database off; return how many there were."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as admin:
            rows = admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
            ).fetchall()
        return len(rows)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [*self._as, str(self.binaries / program), *map(str, arguments)], check=True, capture_output=True, cwd="/"
        )

    def _signal_all(self, what: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
