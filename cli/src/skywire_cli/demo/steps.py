"""What the demo says while it happens."""

from __future__ import annotations

import sys
import time

import click

from skywire_cli.testnet.state import State, Status


class Steps:
    """Say what happens while it happens."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stdout.isatty()
        self._started = time.monotonic()
        self._seen: set[tuple[str, bool]] = set()

    def say(self, text: str) -> None:
        """Print one finished step."""
        if not self._quiet:
            clear = "\r\033[K" if self._live else ""
            click.echo(f"{clear}{time.monotonic() - self._started:6.1f} s  {text}")

    def services(self, state: State) -> None:
        """Print each process when it is ready, and each node again when all its links are up."""
        if state.status is not Status.STARTING:
            return
        for service in state.services:
            linked = bool(service.links) and service.links_up == service.links
            if service.status is Status.READY and (service.name, False) not in self._seen and service.process:
                self._seen.add((service.name, False))
                self.say(f"  {service.name} ready: pid {service.process.pid}, key {service.public_key[:16]}…")
            if linked and (service.name, True) not in self._seen:
                self._seen.add((service.name, True))
                self.say(f"  {service.name} linked to {service.links} of {service.links} neighbours")

    def progress(self, text: str) -> None:
        """Show how far a step is, on a terminal."""
        if self._live:
            click.echo(f"\r\033[K{time.monotonic() - self._started:6.1f} s  {text}", nl=False)
