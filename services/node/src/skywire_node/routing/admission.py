"""Which rules may come into the routing table: their lifetimes, and the transports that they lead by."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.packet import MAX_ROUTE_ID
from skywire_common.rules import MAX_TIME_TO_LIVE, AppRule, ForwardRule, PlacedRule

# An expiry comes from the setup node's clock, which may be this much ahead of ours.
CLOCK_SLACK = 900
MAX_TIME_AHEAD = MAX_TIME_TO_LIVE + CLOCK_SLACK


class Admission:
    """`known` says whether the node has a transport, `private` whether it is for its two ends' own loops alone."""

    def __init__(self, known: Callable[[UUID], bool], private: Callable[[UUID], bool]) -> None:
        self._known = known
        self._private = private

    def check(self, placed: PlacedRule, epoch_now: float) -> None:
        """Check one new rule; raises Failure (INVALID_ARGUMENT, UNKNOWN_TRANSPORT, PERMISSION_DENIED)."""
        check_expiry(placed.rule.expiry, epoch_now)
        if isinstance(placed.rule, ForwardRule):
            if not 1 <= placed.rule.next_id <= MAX_ROUTE_ID:
                raise Failure(ErrorCode.INVALID_ARGUMENT, f"{placed.rule.next_id} is no route id")
            self._check_known(placed.rule.next_transport)
            if placed.from_transport is not None:
                self._check_public(placed.from_transport, placed.rule.next_transport)
        if placed.from_transport is not None:
            self._check_known(placed.from_transport)
        elif isinstance(placed.rule, AppRule):
            raise Failure(ErrorCode.INVALID_ARGUMENT, "packets for an app come over a transport: none is named")

    def _check_known(self, transport: UUID) -> None:
        if not self._known(transport):
            raise Failure(
                ErrorCode.UNKNOWN_TRANSPORT,
                f"this node has no transport {transport}",
                FailureFields(transport_id=transport.bytes, retryable=True),
            )

    def _check_public(self, *transports: UUID) -> None:
        for transport in transports:
            if self._private(transport):
                raise Failure(
                    ErrorCode.PERMISSION_DENIED,
                    f"transport {transport} is private: nobody is routed over it but its two ends",
                    FailureFields(transport_id=transport.bytes),
                )


def check_expiry(expiry: int, epoch_now: float) -> None:
    """Check that a rule's expiry, epoch seconds, lies ahead and not too far; raises Failure (INVALID_ARGUMENT)."""
    if not epoch_now < expiry <= epoch_now + MAX_TIME_AHEAD:
        raise Failure(
            ErrorCode.INVALID_ARGUMENT,
            f"a rule expires within {MAX_TIME_TO_LIVE} s from now, not {expiry - epoch_now:.0f} s from now",
        )
