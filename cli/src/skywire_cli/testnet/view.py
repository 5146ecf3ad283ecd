"""A testnet on the screen: a table that follows the state while it changes, or lines where no terminal is."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

import click

from skywire_cli.output import console, table, visible
from skywire_cli.testnet.state import Kind, ServiceState, State, Status

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_STYLE = {
    Status.WAITING: "dim",
    Status.STARTING: "yellow",
    Status.READY: "green",
    Status.STOPPING: "yellow",
    Status.DEGRADED: "yellow",
    Status.STOPPED: "dim",
    Status.FAILED: "bold red",
}
_KEY_SHOWN = 10
_REFRESHES_PER_SECOND = 10
_COLUMNS = ("process", "state", ">pid", "key", "links", "listens on")


def render(state: State, attached: bool = False) -> Table:
    """Draw the state; an attached one says how to end it."""
    from rich.markup import escape

    failing = f", {state.failure}" if state.failure else ""
    made = table(f"testnet, {state.shape}: {state.status}{failing}", _COLUMNS, ())
    for service in state.services:
        status = f"[{_STYLE[service.status]}]{service.status}[/]"
        made.add_row(
            service.name,
            f"{status} {escape(visible(service.reason))}".rstrip(),
            str(service.process.pid) if service.process else "",
            service.public_key[:_KEY_SHOWN],
            f"{service.links_up} of {service.links}" if service.kind is Kind.NODE else "",
            ", ".join(f"{name} {at}" for name, at in service.interfaces.items() if name != "admin"),
        )
    if attached and state.status is Status.READY:
        made.caption, made.caption_justify = "Ctrl-C takes it down", "left"
    return made


class Screen:
    """Show states as they come, within a `with` block."""

    def __init__(self, *, attached: bool) -> None:
        self._attached = attached
        self._live: Live | None = None
        self._last: dict[str, tuple[Status, int]] = {}

    def __enter__(self) -> Screen:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(console=console(), refresh_per_second=_REFRESHES_PER_SECOND)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: State) -> None:
        """Show a state."""
        if self._live is not None:
            self._live.update(render(state, self._attached))
            return
        for service in state.services:
            now = (service.status, service.links_up)
            if self._last.get(service.name) != now:
                self._last[service.name] = now
                click.echo(_line(service))


def _line(service: ServiceState) -> str:
    links = f", {service.links_up} of {service.links} links up" if service.links and service.links_up else ""
    return f"{service.name}: {service.status}{links} {visible(service.reason)}".rstrip()
