"""What is left of a testnet: ended if it runs, removed if it is a testnet's own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from skywire_cli.testnet.process import STOP_GRACE
from skywire_cli.testnet.state import STATE_FILE, State

LAUNCHER_LOG = "launcher.log"
_SERVICE_DIRECTORY = re.compile(r"discovery|setup-node\d+|node\d+", re.ASCII)


def clean(directory: Path, state: State, *, everything: bool) -> None:
    """End what a dead launcher left, remove sockets, and with `everything` all that the testnet made.

    Only processes of the state and what testnets name so are touched. Blocks for as long as the processes take to end.
    """
    for service in state.services:
        if service.process is not None:
            service.process.end(STOP_GRACE)
        if "admin" in service.interfaces:
            service.socket.unlink(missing_ok=True)
        if everything:
            shutil.rmtree(directory / service.name, ignore_errors=True)
    if state.sockets:
        shutil.rmtree(state.sockets, ignore_errors=True)
    if everything:
        # A larger testnet that was here before left directories that this state does not name.
        for left in directory.iterdir():
            if _SERVICE_DIRECTORY.fullmatch(left.name) and left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        (directory / LAUNCHER_LOG).unlink(missing_ok=True)
        for left in directory.glob(f".{STATE_FILE}.*"):
            left.unlink()  # drafts of launchers that were killed
        (directory / STATE_FILE).unlink(missing_ok=True)
        if not any(directory.iterdir()):
            directory.rmdir()
