"""What travels for a trace of a loop's route: a question, and answers that only its asker reads (docs/wire-format.md).

    question   00 ‖ route id 4 ‖ nonce 16 ‖ asker's key 33      54 bytes
    answer     01 ‖ nonce 16 ‖ salt 16 ‖ sealed                 244 bytes

    sealed     node key 33 ‖ route id 4 ‖ status 1 ‖ transport in 16 ‖ transport out 16 ‖ held 4 (µs) ‖ queued 4
               ‖ drops 8 ‖ packets 8 ‖ idle 4 (ms) ‖ cover seed 32 ‖ signature 65

The asker's key is drawn for one trace and tells nobody who asks. The seal is ChaCha20-Poly1305 with counter 0 under
SHA-256(`skywire trace seal` ‖ ECDH of the node's and the asker's key ‖ nonce ‖ salt). The signature is by the node's
key over `skywire trace answer` ‖ nonce ‖ asker's key ‖ the fields before it: of use to this asker, for this trace.

Every hop sends ANSWERS answers back for a question: its own and the first of those that come from behind it, and
where the question stops the rest is cover: bytes that look the same to everyone but the asker, who gets their seed. So
nobody on the way counts the hops behind him.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from skywire_common.curve import SIGNATURE_SIZE, SecretKey, check_point, verify
from skywire_common.errors import DecodeError
from skywire_common.keys import PUBLIC_KEY_SIZE, PublicKey
from skywire_common.noise import TAG_SIZE, Cipher
from skywire_common.routes import MAX_HOPS
from skywire_common.wire import Reader

QUESTION, ANSWER = 0, 1
NONCE_SIZE = SALT_SIZE = 16
SEED_SIZE = 32
ANSWERS = MAX_HOPS
QUESTION_SIZE = 1 + 4 + NONCE_SIZE + PUBLIC_KEY_SIZE
_FIELDS_SIZE = PUBLIC_KEY_SIZE + 4 + 1 + 16 + 16 + 4 + 4 + 8 + 8 + 4 + SEED_SIZE
_BODY_SIZE = SALT_SIZE + _FIELDS_SIZE + SIGNATURE_SIZE + TAG_SIZE
ANSWER_SIZE = 1 + NONCE_SIZE + _BODY_SIZE
NOWHERE = UUID(int=0)
NO_SEED = bytes(SEED_SIZE)
_SEAL_LABEL = b"skywire trace seal"
_SIGN_LABEL = b"skywire trace answer"
_MOST = 0xFFFF_FFFF


class Status(IntEnum):
    """What became of the question at a hop. Append only."""

    PASSED_ON = 0
    ARRIVED = 1
    UNKNOWN_ROUTE = 2
    EXPIRED_RULE = 3
    NO_LINK = 4
    LINK_FULL = 5
    NO_LOOP = 6


class Question(NamedTuple):
    """Asked under a route id, which each hop rewrites like a packet's. nonce: 16 bytes. asker: drawn for this trace."""

    route_id: int
    nonce: bytes
    asker: PublicKey

    def encode(self) -> bytes:
        """Return the body of the record."""
        return b"".join((bytes((QUESTION,)), self.route_id.to_bytes(4, "big"), self.nonce, self.asker))


class Answer(NamedTuple):
    """What a hop says of itself. Transports are NOWHERE where there is none.

    held: seconds from the question's arrival to this answer, by the hop's own clock. queued: bytes that wait for the
    outgoing link. drops: packets that this link had no room for. packets: those the rule passed. idle: seconds since
    the last of them. seed: of the covers, where the question stops.
    """

    node: PublicKey
    route_id: int
    status: Status
    transport_in: UUID
    transport_out: UUID
    held: float = 0.0
    queued: int = 0
    drops: int = 0
    packets: int = 0
    idle: float = 0.0
    seed: bytes = NO_SEED

    def encode(self) -> bytes:
        """Return what is signed, and sealed with the signature."""
        return b"".join(
            (
                self.node,
                self.route_id.to_bytes(4, "big"),
                bytes((self.status,)),
                self.transport_in.bytes,
                self.transport_out.bytes,
                _bounded(self.held * 1e6).to_bytes(4, "big"),
                _bounded(self.queued).to_bytes(4, "big"),
                self.drops.to_bytes(8, "big"),
                self.packets.to_bytes(8, "big"),
                _bounded(self.idle * 1e3).to_bytes(4, "big"),
                self.seed,
            )
        )


class Sealed(NamedTuple):
    """An answer as it travels; whoever passes it on reads the nonce and nothing else."""

    nonce: bytes
    body: bytes

    def encode(self) -> bytes:
        """Return the body of the record."""
        return b"".join((bytes((ANSWER,)), self.nonce, self.body))


def decode(body: bytes) -> Question | Sealed:
    """Read the body of a trace record; raises DecodeError."""
    reader = Reader(body)
    kind = reader.uint(1)
    if kind == QUESTION and len(body) == QUESTION_SIZE:
        return Question(reader.uint(4), reader.take(NONCE_SIZE), PublicKey(reader.take(PUBLIC_KEY_SIZE)))
    if kind == ANSWER and len(body) == ANSWER_SIZE:
        return Sealed(reader.take(NONCE_SIZE), reader.rest())
    raise DecodeError(f"no trace record of kind {kind} has {len(body)} bytes")


def seal(answer: Answer, question: Question, secret: SecretKey, salt: bytes) -> Sealed:
    """Sign an answer with the node's key and seal it for the asker; `salt` is drawn for it: 16 bytes.

    Raises DecodeError if the asker's key is no point of the curve.
    """
    encoded = answer.encode()
    signature = secret.sign(_signed(question) + encoded)
    cipher = _cipher(secret.ecdh(check_point(question.asker)), question.nonce, salt)
    return Sealed(question.nonce, salt + cipher.seal(0, encoded + signature))


def covers(nonce: bytes, seed: bytes, count: int) -> Iterator[Sealed]:
    """Make answers that say nothing."""
    cipher = Cipher(seed)
    nothing = bytes(_BODY_SIZE - TAG_SIZE)
    for index in range(count):
        yield Sealed(nonce, cipher.seal(index, nothing))


class Reading:
    """What one asker reads: answers of the nodes that it knows on the route, each once, and covers, each once."""

    def __init__(self, secret: SecretKey, nonce: bytes, nodes: Iterable[PublicKey]) -> None:
        """`secret` and `nonce` are drawn for this trace. Raises DecodeError if a node's key is no point."""
        self.question = Question(0, nonce, secret.public)
        self._shared = {node: secret.ecdh(check_point(node)) for node in nodes}
        self._covers: set[Sealed] = set()

    def open(self, sealed: Sealed) -> Answer | None:
        """Read an answer; None: a cover. Raises DecodeError for what is forged, repeated or somebody else's."""
        if sealed in self._covers:
            self._covers.remove(sealed)
            return None
        for node, shared in self._shared.items():
            cipher = _cipher(shared, sealed.nonce, sealed.body[:SALT_SIZE])
            try:
                plain = cipher.open(0, sealed.body[SALT_SIZE:])
            except DecodeError:
                continue
            answer = _answer(plain, node, self.question)
            del self._shared[node]
            if answer.status is not Status.PASSED_ON:
                self._covers = set(covers(self.question.nonce, answer.seed, ANSWERS))
            return answer
        raise DecodeError("no node of this route says that, or it has said so before")


def _answer(plain: bytes, node: PublicKey, question: Question) -> Answer:
    reader = Reader(plain)
    named = PublicKey(reader.take(PUBLIC_KEY_SIZE))
    if named != node or not verify(node, _signed(question) + plain[:_FIELDS_SIZE], plain[_FIELDS_SIZE:]):
        raise DecodeError("the answer is not signed by the node that sealed it")
    route_id = reader.uint(4)
    try:
        status = Status(reader.uint(1))
    except ValueError as error:
        raise DecodeError("the answer has no status that is known") from error
    return Answer(
        node,
        route_id,
        status,
        UUID(bytes=reader.take(16)),
        UUID(bytes=reader.take(16)),
        held=reader.uint(4) / 1e6,
        queued=reader.uint(4),
        drops=reader.uint(8),
        packets=reader.uint(8),
        idle=reader.uint(4) / 1e3,
        seed=reader.take(SEED_SIZE),
    )


def _cipher(shared: bytes, nonce: bytes, salt: bytes) -> Cipher:
    return Cipher(hashlib.sha256(b"".join((_SEAL_LABEL, shared, nonce, salt))).digest())


def _signed(question: Question) -> bytes:
    return b"".join((_SIGN_LABEL, question.nonce, question.asker))


def _bounded(value: float) -> int:
    return min(max(int(value), 0), _MOST)
