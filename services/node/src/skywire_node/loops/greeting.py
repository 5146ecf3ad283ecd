"""The Noise handshakes of loops: begun as initiator, answered as responder, each first message once.

Keys come from Noise KK between the two nodes. The prologue binds a handshake to its loop id, both ends and the
initiator's epoch, so no setup node can give a message another meaning. A first message that was seen before is refused
before any state is made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from skywire_common.curve import DH_SIZE, SecretKey
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr, PublicKey
from skywire_common.noise import Handshake, Pattern

from skywire_node.loops.loop_setup import Offer

MAX_SEEN = 65_536  # first messages that are remembered, by their ephemeral keys
_PROLOGUE = b"skywire loop 1"


class Greetings:
    """This node's side of all its loops' handshakes; `draw` returns so many random bytes."""

    def __init__(self, secret: SecretKey, draw: Callable[[int], bytes]) -> None:
        self._secret = secret
        self._draw = draw
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many first messages are remembered."""
        return len(self._seen)

    def begin(self, loop_id: bytes, local: Addr, remote: Addr, epoch: int) -> Handshake:
        """Begin a handshake as initiator; raises Failure (INVALID_ARGUMENT) if the remote key is no point."""
        return self._handshake(loop_id, local, remote, epoch, remote.public_key, initiator=True)

    def refuse_seen(self, offer: Offer) -> None:
        """Raise Failure (REPLAYED) if the offer's first message was answered before."""
        if offer.noise_message[:DH_SIZE] in self._seen:
            raise Failure(ErrorCode.REPLAYED, "this loop was offered before", FailureFields(setup_id=offer.setup_id))

    def answer(self, offer: Offer) -> tuple[Handshake, bytes]:
        """Answer a first message; return the finished handshake and the second message.

        Raises Failure (HANDSHAKE_FAILED, INVALID_ARGUMENT).
        """
        handshake = self._handshake(
            offer.setup_id,
            offer.initiator,
            offer.responder,
            offer.initiator_epoch,
            offer.initiator.public_key,
            initiator=False,
        )
        try:
            handshake.read(offer.noise_message)
        except DecodeError as error:
            raise Failure(ErrorCode.HANDSHAKE_FAILED, "the initiator's message is not authentic") from error
        answer = handshake.write()
        self._seen[offer.noise_message[:DH_SIZE]] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return handshake, answer

    def _handshake(
        self, loop_id: bytes, initiator_: Addr, responder: Addr, epoch: int, remote: PublicKey, *, initiator: bool
    ) -> Handshake:
        parts = [_PROLOGUE, loop_id, epoch.to_bytes(8, "big")]
        for addr in (initiator_, responder):
            parts += (bytes(addr.public_key), addr.port.to_bytes(2, "big"))
        try:
            return Handshake(
                Pattern.KK,
                initiator=initiator,
                secret=self._secret,
                remote=remote,
                ephemeral=SecretKey(self._draw(32)),
                prologue=b"".join(parts),
            )
        except DecodeError as error:
            raise Failure(ErrorCode.INVALID_ARGUMENT, str(error)) from error
