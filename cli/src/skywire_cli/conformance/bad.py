"""Cases of a node that is going, gone, or not one: an app may end then, but never hang and never crash."""

from __future__ import annotations

import random

from skywire_common import appframes
from skywire_common.appframes import FrameType, LoopAddr
from skywire_common.keys import Addr

from skywire_cli.conformance.cases import FAR_PORT, Cases, ends, is_sane, open_loop
from skywire_cli.conformance.peer import APP_PORT, FAR, Broken, Peer, Skipped
from skywire_cli.conformance.process import Ended

CASES = Cases()
STRANGER = LoopAddr(APP_PORT, Addr(FAR, FAR_PORT + 500))


def until_it_ends(peer: Peer) -> str:
    """Close the pipe and wait for the end of the app."""
    peer.app.close_pipe()
    ends(peer)
    code = peer.app.exit or 0
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


@CASES.case("a node that does not want it: it ends by itself", "The frames, 1")
def refused_init(peer: Peer) -> str:
    number, _ = peer.hear_init()
    peer.reply(number, FrameType.FAILURE, b"INVALID_ARGUMENT: this pipe is for another app")
    return until_it_ends(peer)


@CASES.case("a node that goes away: it ends by itself", "How a node runs an app")
def eof(peer: Peer) -> str:
    open_or_not(peer)
    return until_it_ends(peer)


@CASES.case("a node that goes away in the middle of a frame: it ends by itself", "How a node runs an app")
def half_a_frame(peer: Peer) -> str:
    open_or_not(peer)
    peer.raw(appframes.frame(FrameType.SEND, 9, b'{"addr":{"port":20')[:-3])
    return until_it_ends(peer)


@CASES.case(
    "a node that goes away while the app has much to say: it ends by itself", "How a node runs an app", small_pipe=True
)
def eof_while_writing(peer: Peer) -> str:
    loop = open_loop(peer)
    peer.deaf = True
    peer.begin_send(loop, bytes(appframes.SAFE_PAYLOAD))
    return until_it_ends(peer)


@CASES.case("a Send of a loop that there is not: answered, or the end; no hang", "The frames, 6")
def unknown_loop(peer: Peer) -> str:
    peer.lenient = True
    peer.start()
    return _answered_or_sane(peer, peer.begin_send(STRANGER, b"hello\n"))


@CASES.case("a Close of a loop that there is not: answered, or the end; no hang", "The frames, 6")
def unknown_close(peer: Peer) -> str:
    peer.lenient = True
    peer.start()
    body = appframes.encode_close(appframes.Close(STRANGER))
    return _answered_or_sane(peer, peer.begin(FrameType.CLOSE, body))


@CASES.case("a Send whose body is no JSON: answered, or the end; no hang", "The frames, 7")
def no_json(peer: Peer) -> str:
    peer.lenient = True
    open_or_not(peer)
    return _answered_or_sane(peer, peer.begin(FrameType.SEND, b'{"addr":'))


@CASES.case("a Send whose payload is no base64: answered, or the end; no hang", "The frames, 7")
def no_base64(peer: Peer) -> str:
    peer.lenient = True
    loop = open_loop(peer)
    good = appframes.send(appframes.send_prefix(loop), 0, b"hello!")[appframes.HEADER_SIZE :]
    return _answered_or_sane(peer, peer.begin(FrameType.SEND, good.replace(b"aGVs", b"!*?$")))


@CASES.case("a frame of an unknown type: the app goes on or ends; no hang", "The frames, 7")
def unknown_type(peer: Peer) -> str:
    peer.lenient = True
    open_or_not(peer)
    peer.may_answer(9)
    peer.frame(0x42, 9, b"junk")
    return is_sane(peer)


@CASES.case("an answer that nobody asked for: the app goes on or ends; no hang", "The frames, 7")
def answer_unasked(peer: Peer) -> str:
    peer.lenient = True
    open_or_not(peer)
    peer.may_answer(77)
    peer.frame(FrameType.SUCCESS, 77, b"null")
    return is_sane(peer)


@CASES.case("a length that no frame has: the app ends, at the latest with its pipe", "The frames")
def impossible_length(peer: Peer) -> str:
    open_or_not(peer)
    peer.raw(b"\x00\x01\x03" + b"\x00" * 8)
    return until_it_ends(peer)


@CASES.case("bytes that are no frames: the app ends, at the latest with its pipe", "The frames")
def garbage(peer: Peer) -> str:
    peer.start()
    peer.deaf = True
    try:
        peer.raw(random.Random(5).randbytes(100_000))
    except (Ended, Broken):
        # It has seen enough; or it waits for the rest of a frame and is told by the end.
        pass
    return until_it_ends(peer)


def open_or_not(peer: Peer) -> None:
    """Open a loop if the app takes or dials one: these cases do without."""
    try:
        open_loop(peer)
    except Skipped:
        return


def _answered_or_sane(peer: Peer, number: int) -> str:
    try:
        taken, _ = peer.answer_to(number)
    except Ended:
        ends(peer)
        return "it ends"
    return f"{'success' if taken else 'failure'}; {is_sane(peer)}"
