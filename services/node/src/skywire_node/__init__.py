"""The node."""

import skywire_common.runtime.plain_structlog  # noqa: F401 - before any module imports structlog
