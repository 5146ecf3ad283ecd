"""What a case is, and what cases have in common."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from skywire_common.appframes import FrameType, LoopAddr

from skywire_cli.conformance.peer import Broken, Peer, Skipped
from skywire_cli.conformance.process import Ended

FAR_PORT = 50_000


Run = Callable[[Peer], str | None]


@dataclass(frozen=True)
class Case:
    """One thing that has to hold. `run` raises Broken or Skipped; a text that it returns is worth saying."""

    name: str
    says: str
    rule: str
    run: Run
    small_pipe: bool = False


class Cases(list[Case]):
    """Cases in the order in which they were added."""

    def case(self, says: str, rule: str, *, small_pipe: bool = False) -> Callable[[Run], Run]:
        """Add a function under its name; `rule` is a section of docs/apps.md."""

        def add(run: Run) -> Run:
            self.append(Case(run.__name__.replace("_", "-"), says, rule, run, small_pipe))
            return run

        return add


def open_loop(peer: Peer) -> LoopAddr:
    """Start the app and open a loop with it, whichever of the two dials."""
    peer.start()
    return another_loop(peer, FAR_PORT)


def another_loop(peer: Peer, far_port: int) -> LoopAddr:
    """Open a loop: the app's own if it dials, else an incoming one."""
    dialled = first_dial(peer)
    if dialled is not None:
        return peer.accept_dial(*dialled)
    loop = peer.confirm(far_port)
    if loop is None:
        raise Skipped("it takes no loops")
    return loop


def first_dial(peer: Peer) -> tuple[int, bytes] | None:
    """Return the app's CreateLoop (id, body), None if it does not dial by itself."""
    # Whoever is started to dial does it; others may.
    peer.pump(lambda: bool(peer.heard), peer.quiet if peer.accepts else peer.patience)
    while peer.heard:
        kind, number, body = peer.heard.popleft()
        if kind == FrameType.CREATE_LOOP:
            return number, body
    return None


def dial(peer: Peer) -> tuple[int, bytes]:
    """Start the app and return what it dials."""
    peer.start()
    found = first_dial(peer)
    if found is None:
        raise Skipped("it does not dial; give it the arguments with which it does ({remote} is an address)")
    return found


def is_sane(peer: Peer, far_port: int = FAR_PORT + 900) -> str:
    """Check that the app either has ended by itself or goes on, and say which."""
    try:
        if not peer.accepts:
            peer.pump(lambda: False, peer.quiet)
            return "it goes on"
        loop = peer.confirm(far_port)
    except Ended:
        ends(peer)
        return "it ends"
    return "it goes on" if loop is not None else "it goes on, and takes no loop"


def ends(peer: Peer) -> None:
    """Check that the process ends by itself, and not by a crash."""
    if not peer.app.ended(peer.patience):
        raise Broken(f"its pipe is closed and it has not ended within {peer.patience:g} s: a process without a node")
    no_crash(peer)


def no_crash(peer: Peer) -> None:
    """Check that the process was not ended by a fault of its own."""
    code = peer.app.exit
    if code is not None and code < 0 and -code not in (signal.SIGTERM, signal.SIGPIPE, signal.SIGINT, signal.SIGHUP):
        raise Broken(f"it crashed: {signal.Signals(-code).name}")
