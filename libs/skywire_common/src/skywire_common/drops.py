"""Why a packet was dropped. Counted by reason, never a log line per packet, never the end of a link."""

from __future__ import annotations

from enum import StrEnum


class DropReason(StrEnum):
    """Append only: the names are label values of metrics."""

    UNKNOWN_ROUTE = "unknown_route"
    EXPIRED_RULE = "expired_rule"
    WRONG_LINK = "wrong_link"
    NO_LINK = "no_link"
    LINK_FULL = "link_full"
    NO_LOOP = "no_loop"
    MALFORMED = "malformed"
    REPLAYED = "replayed"
    BAD_TAG = "bad_tag"
    BAD_FRAME = "bad_frame"
    TOO_LARGE = "too_large"
