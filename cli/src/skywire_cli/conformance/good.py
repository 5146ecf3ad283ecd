"""Cases of a node that keeps to the protocol, in all the ways in which it may."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable

from skywire_common import appframes
from skywire_common.appframes import FrameType, LoopAddr
from skywire_common.keys import Addr

from skywire_cli.conformance.cases import (
    FAR_PORT,
    Cases,
    another_loop,
    dial,
    ends,
    first_dial,
    no_crash,
    open_loop,
)
from skywire_cli.conformance.peer import APP_PORT, FAR, Broken, Peer, Skipped, spelled_otherwise
from skywire_cli.conformance.process import OWN, Ended

SENDS = 20
LOOPS = 5
# A window is tried up to this.
MOST_AT_ONCE = 64
SLOW_PART = 997

CASES = Cases()


def alive(peer: Peer) -> None:
    """Check that the app is there after what it was told."""
    try:
        peer.pump(lambda: False, peer.quiet)
    except Ended:
        ends(peer)
        if peer.app.exit and peer.accepts:
            raise Broken(f"it ended with exit code {peer.app.exit}") from None


@CASES.case("the first frame is an Init that bears the name under which it was started", "The frames, 1")
def init(peer: Peer) -> str:
    said = peer.start()
    if said.protocol_version != appframes.PROTOCOL_VERSION:
        raise Broken(f"protocol-version is {said.protocol_version!r}, it has to be {appframes.PROTOCOL_VERSION!r}")
    started = peer.app.folder / f"{said.app_name}.v{said.app_version}"
    if not started.is_symlink():
        raise Broken(
            f"INIT says {said.app_name!r} version {said.app_version!r}; it was started under another name "
            "(--name and --version say which)"
        )
    extensions = [f"window {said.window}"] * (said.window > 1) + ["half_close"] * said.half_close
    return f"{said.app_name} {said.app_version}, " + (", ".join(extensions) or "the original protocol")


@CASES.case("a success with the body null is understood", "The frames")
def null_answer(peer: Peer) -> None:
    peer.start(b"null")
    alive(peer)


@CASES.case("a success with an empty body is understood", "The frames")
def empty_answer(peer: Peer) -> None:
    peer.start(b"")
    alive(peer)


@CASES.case("an answer that comes byte by byte is understood", "The frames")
def byte_by_byte(peer: Peer) -> None:
    number, _ = peer.hear_init()
    answer = appframes.frame(FrameType.SUCCESS, number, b"null")
    # The app may ask for something as soon as it has the last byte.
    peer.unanswered.pop(number)
    peer.pieces(*(bytes((byte,)) for byte in answer))
    alive(peer)


@CASES.case("a loop that is offered is answered once, under the id of the offer", "The frames, 5")
def confirm(peer: Peer) -> str:
    peer.start()
    for number in (0, 254, 7):
        if peer.confirm(FAR_PORT + number, number) is None:
            return "it takes no loops"
    return "it takes loops"


@CASES.case("loops that are offered at once are each answered, at the latest when those before end", "The frames, 5")
def loops_at_once(peer: Peer) -> str:
    peer.needs_port()
    peer.start()
    loops = [LoopAddr(APP_PORT, Addr(FAR, FAR_PORT + number)) for number in range(LOOPS)]
    asked = [
        peer.begin(FrameType.CONFIRM_LOOP, appframes.encode_confirm(Addr(OWN, APP_PORT), loop.remote)) for loop in loops
    ]
    one_by_one = False
    for index, number in enumerate(asked):
        try:
            peer.answer_to(number, peer.quiet if index and not one_by_one else None)
        except Broken:
            one_by_one = True
            for earlier in loops[:index]:
                peer.close(earlier)
            peer.answer_to(number)
        if one_by_one:
            peer.close(loops[index])
    return "one at a time" if one_by_one else "all at once"


@CASES.case("each Send is answered, so that the next may come", "The frames, 3")
def stop_and_wait(peer: Peer) -> None:
    loop = open_loop(peer)
    for number in range(SENDS):
        peer.send(loop, b"%d\n" % number)


@CASES.case("as many Sends as Init's window says may come at once, and each is answered", "Extensions")
def window(peer: Peer) -> str:
    loop = open_loop(peer)
    at_once = min(peer.init.window if peer.init is not None else 1, MOST_AT_ONCE)
    if at_once == 1:
        raise Skipped("its Init has no window: one Send at a time")
    asked = [peer.begin_send(loop, b"%d\n" % number) for number in range(at_once)]
    for number in asked:
        peer.answer_to(number)
    return f"{at_once} at once"


@CASES.case("a Send of 48,000 bytes, and a frame of the largest length, are taken", "The frames, 4")
def largest(peer: Peer) -> None:
    loop = open_loop(peer)
    peer.send(loop, random.Random(1).randbytes(appframes.SAFE_PAYLOAD))
    body = appframes.send(appframes.send_prefix(loop), 0, b"x")[appframes.HEADER_SIZE : -1]
    body += b" " * (appframes.MAX_BODY - len(body) - 1) + b"}"
    peer.answer_to(peer.begin(FrameType.SEND, body))


@CASES.case("JSON in another order, with spaces and unknown keys, means the same", "The frames")
def spelling(peer: Peer) -> None:
    loop = open_loop(peer)
    number = peer.begin(FrameType.SEND, spelled_otherwise(loop, "aGVsbG8="))
    taken, _ = peer.answer_to(number)
    if not taken and loop not in peer.loops:
        raise Skipped("it has closed the loop")
    if not taken:
        raise Broken("it refused the bytes, or did not know the loop, because of how the JSON was written")


@CASES.case("a Send without a byte is answered", "The frames, 3")
def empty_send(peer: Peer) -> None:
    loop = open_loop(peer)
    peer.send(loop, b"")
    body = json.dumps({"addr": {"port": loop.port, "remote": _remote(loop)}, "payload": None}).encode()
    peer.answer_to(peer.begin(FrameType.SEND, body))


@CASES.case("frames that come in pieces, and many in one piece, are told apart", "The frames")
def pieces(peer: Peer) -> None:
    peer.needs_port()
    peer.start()
    offers = []
    for number in (1, 2):
        peer.opened(LoopAddr(APP_PORT, Addr(FAR, FAR_PORT + number)))
        peer.may_answer(number, FrameType.CONFIRM_LOOP)
        body = appframes.encode_confirm(Addr(OWN, APP_PORT), Addr(FAR, FAR_PORT + number))
        offers.append(appframes.frame(FrameType.CONFIRM_LOOP, number, body))
    data = b"".join(offers)
    cut = len(offers[0]) + 2
    peer.pieces(data[:1], data[1:3], data[3:cut], data[cut:])
    peer.answer_to(1)
    try:
        peer.answer_to(2, peer.quiet)
    except Broken:
        peer.close(LoopAddr(APP_PORT, Addr(FAR, FAR_PORT + 1)))
        peer.answer_to(2)


@CASES.case("a Close is answered, and a loop between the same two addresses may come again", "The frames, 6")
def close(peer: Peer) -> None:
    peer.start()
    for _ in range(3):
        loop = peer.confirm(FAR_PORT)
        if loop is None:
            raise Skipped("it takes no loops")
        peer.send(loop, b"hello\n")
        peer.close(loop)


@CASES.case("a Close behind a Send that is not answered yet: both are answered, and the app goes on", "The frames, 6")
def close_in_the_middle(peer: Peer) -> str:
    loop = open_loop(peer)
    sent = peer.begin_send(loop, b"hello\n" * 1_000)
    closed = peer.begin(FrameType.CLOSE, appframes.encode_close(appframes.Close(loop)))
    late = peer.begin_send(loop, b"too late\n")
    for number in (sent, closed, late):
        peer.answer_to(number)
    return _goes_on(peer)


@CASES.case("half a Close: what the app still says comes, then its own end", "Extensions")
def half_close(peer: Peer) -> str:
    loop = open_loop(peer)
    if peer.init is None or not peer.init.half_close:
        raise Skipped("its Init has no half_close")
    peer.send(loop, b"hello\n")
    peer.ask(FrameType.CLOSE, appframes.encode_close(appframes.Close(loop, half=True)))
    peer.pump(lambda: loop not in peer.loops, peer.quiet)
    return "it closes too" if loop not in peer.loops else "it has more to say"


@CASES.case("what the app sends may be refused: that loop is over, others are not", "The frames, 6")
def refused_send(peer: Peer) -> str:
    loop = open_loop(peer)
    peer.answering = False
    peer.begin_send(loop, b"hello\n")
    peer.pump(lambda: bool(peer.heard), 2 * peer.quiet)
    sends = [number for kind, number, _ in peer.heard if kind == FrameType.SEND]
    if not sends:
        raise Skipped("it sends nothing of its own after a Send")
    peer.answering = True
    for number in sends:
        peer.reply(number, FrameType.FAILURE, b"CLOSED: the other end has closed this loop")
    peer.heard.clear()
    return _goes_on(peer)


@CASES.case("its own requests have ids of their own, at most 255 without an answer", "The frames")
def no_answers(peer: Peer) -> str:
    loop = open_loop(peer)
    peer.answering = False
    at_once = min(peer.init.window if peer.init is not None else 1, MOST_AT_ONCE)
    for _ in range(at_once):
        peer.begin_send(loop, random.Random(2).randbytes(appframes.SAFE_PAYLOAD))
    peer.pump(lambda: False, 2 * peer.quiet)
    most = len(peer.unanswered)
    for number in sorted(peer.unanswered, reverse=True):  # the last one first
        peer.reply(number)
    peer.heard.clear()
    peer.answering = True
    peer.pump(lambda: False, peer.quiet)
    return f"{most} of its requests under way, answered in the other order"


@CASES.case("a node that reads slowly loses nothing of what the app says", "The frames", small_pipe=True)
def slow_reader(peer: Peer) -> str:
    loop = open_loop(peer)
    peer.deaf = True
    sent = peer.begin_send(loop, random.Random(3).randbytes(appframes.SAFE_PAYLOAD))
    time.sleep(peer.quiet)
    _read_slowly(peer)
    peer.answer_to(sent)
    _read_slowly(peer)
    if not peer.pump(lambda: not peer.pending):
        raise Broken(f"the last {peer.pending} bytes that it wrote are half a frame")
    return f"{peer.received[loop]} bytes came back" if peer.received[loop] else "nothing came back"


@CASES.case("what it dials may be refused", "The frames, 2")
def refused_dial(peer: Peer) -> str:
    number, _ = dial(peer)
    peer.reply(number, FrameType.FAILURE, b"PORT_CLOSED: no app has port 10 [phase=confirm retryable=yes]")
    return _goes_on_or_ends(peer, lambda: None)


@CASES.case("a loop that it dialled is closed at once", "The frames, 6")
def closed_dial(peer: Peer) -> str:
    loop = peer.accept_dial(*dial(peer))
    return _goes_on_or_ends(peer, lambda: peer.close(loop))


@CASES.case("after SIGTERM it ends by itself", "How a node runs an app")
def sigterm(peer: Peer) -> str:
    peer.start()
    dialled = first_dial(peer)
    if dialled is not None:
        peer.accept_dial(*dialled)
    peer.app.signal(signal.SIGTERM)
    try:
        peer.pump(lambda: False)
    except Ended:
        ends(peer)
    if not peer.app.ended(0.0):
        raise Broken("it goes on after SIGTERM; a node would kill it")
    no_crash(peer)
    code = peer.app.exit or 0
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _read_slowly(peer: Peer) -> None:
    """Read small pieces until nothing comes any more."""
    deadline = time.monotonic() + 4 * peer.patience
    while time.monotonic() < deadline:
        part = peer.app.read(SLOW_PART)
        if part is not None:
            peer.take(part)
            continue
        try:
            peer.app.wait(time.monotonic() + peer.quiet)
        except TimeoutError:
            return


def _goes_on_or_ends(peer: Peer, act: Callable[[], None]) -> str:
    """Do something to an app that dials, and say what it does then: both are its right."""
    try:
        act()
        peer.pump(lambda: False, peer.quiet)
    except Ended:
        ends(peer)
        return f"it ends with exit code {peer.app.exit}"
    return "it goes on"


def _goes_on(peer: Peer) -> str:
    try:
        another_loop(peer, FAR_PORT + 100)
    except Ended:
        ends(peer)
        return "it ends"
    except Skipped:
        return "it takes no other loop"
    return "it goes on"


def _remote(loop: LoopAddr) -> dict[str, object]:
    return {"pk": str(loop.remote.public_key), "port": loop.remote.port}
