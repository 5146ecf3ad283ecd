"""Loops to other nodes as their initiator sets them up: several ways raced, one handshake for each setup node asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
from skywire_common.edge_tags import SALT_SIZE
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import Addr
from skywire_common.noise import Handshake
from skywire_common.routes import PathPair

from skywire_node.loops.greeting import Greetings
from skywire_node.loops.loop_setup import Routes, SetUps, Wanted
from skywire_node.loops.own_rules import OwnRules
from skywire_node.loops.racing import race
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import Stories, Story, shown_way

# The responder's own word, or about this node's own request.
FINAL = frozenset(
    {
        ErrorCode.PORT_CLOSED,
        ErrorCode.BACKLOG_FULL,
        ErrorCode.HANDSHAKE_FAILED,
        ErrorCode.LOOP_RESET,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.NO_SETUP_NODE,
    }
)

log = structlog.get_logger(part="loops")


class Opening(Protocol):
    """The node's loops, as far as new ones come to them."""

    changed: Callable[[RoutedLoop], None]

    def check_room(self) -> None:
        """Raise Failure (LIMIT_REACHED) if there is no place for another loop."""

    def open(self, story: Story, loop_id: bytes, remote_epoch: int, handshake: Handshake, routes: Routes) -> RoutedLoop:
        """Begin a loop whose set-up is done."""


class Dialling:
    """Sets loops up. `draw` returns so many random bytes."""

    def __init__(
        self,
        local: Addr,
        epoch: int,
        loops: Opening,
        rules: OwnRules,
        greetings: Greetings,
        setups: SetUps,
        stories: Stories,
        draw: Callable[[int], bytes],
    ) -> None:
        self._local = local
        self._epoch = epoch
        self._loops = loops
        self._rules = rules
        self._greetings = greetings
        self._setups = setups
        self._stories = stories
        self._draw = draw

    async def dial(self, app: str, local_port: int, remote: Addr) -> RoutedLoop:
        """Set a loop up; raises Failure that says which hop, which phase, why."""
        self._loops.check_room()
        story = self._stories.begin(b"", app, self._local._replace(port=local_port), remote, initiator=True)
        try:
            ways = await self._setups.find(remote.public_key)
            return await race(ways, lambda paths: self._dial_by(story, paths), RoutedLoop.close, _is_final)
        except BaseException as error:
            story.note("failed", str(error))
            self._stories.end(story, "FAILED")
            raise

    async def _dial_by(self, story: Story, paths: PathPair) -> RoutedLoop:
        """Set a loop up over one pair of paths; raises Failure and leaves nothing."""
        local, remote = story.local, story.remote
        loop_id = self._draw(16)
        story.note("set-up", shown_way(paths), loop_id)
        forward_id, app_id = self._rules.reserve(loop_id)
        salt = self._draw(SALT_SIZE)
        wanted = Wanted(loop_id, b"", local, remote, self._epoch, paths, forward_id, app_id, salt)
        handshakes: list[Handshake] = []

        def first_message() -> bytes:
            handshakes.append(self._greetings.begin(loop_id, local, remote, self._epoch))
            return handshakes[-1].write()

        try:
            made = await self._setups.create(wanted, first_message)
            try:
                handshakes[-1].read(made.noise_message)
            except DecodeError as error:
                raise Failure(
                    ErrorCode.HANDSHAKE_FAILED,
                    "the responder's answer is not authentic",
                    FailureFields(phase=Phase.CONFIRM, hop_key=remote.public_key, setup_id=loop_id),
                ) from error
            routes = self._rules.install(wanted, made)
        except BaseException as error:
            story.note("set-up failed", str(error), loop_id)
            self._rules.give_up(loop_id)
            raise
        if story.loop_id:  # a candidate that succeeded after another one
            story = self._stories.begin(loop_id, story.app, local, remote, initiator=True)
        loop = self._loops.open(story, loop_id, made.responder_epoch, handshakes[-1], routes)
        self._loops.changed(loop)
        log.info(
            "loop open", loop_id=loop_id.hex(), setup_id=loop_id.hex(), remote=str(remote), hops=len(paths.forward)
        )
        return loop


def _is_final(failure: Failure) -> bool:
    """Say whether another route would meet the same answer."""
    return failure.code in FINAL
