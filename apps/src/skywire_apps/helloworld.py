"""The wiki's ping-pong. Without --dial it answers every ping with a pong; with it, it pings and measures.

    skywire-helloworld                                        answers on the port of the node's config
    skywire-helloworld --dial KEY:PORT --count 1000 --json    p50 and p99 of the round trip

A ping is `size` bytes that start with "ping"; the pong is the same with every "i" turned into "o", so that it does not
matter how the network cuts the stream.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import click
from skywire_app.blocking import App, ErrorCode, Failure, Stream
from skywire_common.errors import SkywireError

from skywire_apps.identity import identity
from skywire_apps.options import Remote, end
from skywire_apps.report import Report

NAME, VERSION = "helloworld", "1.0"
LARGEST_PING = 1 << 20
MOST_PINGS = 10_000_000
# Up to so many pings each one has a line of its own.
SHOWN = 10

_PONG = bytes.maketrans(b"i", b"o")


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option(
    "--dial",
    "remote",
    type=Remote(),
    metavar="KEY:PORT",
    help="Ping it instead of answering; KEY or file:FILE.",
)
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, MOST_PINGS), help="How many pings.")
@click.option("--size", default=16, show_default=True, type=click.IntRange(4, LARGEST_PING), help="Bytes per ping.")
@click.option("--interval", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds between pings.")
@click.option("--timeout", default=30.0, show_default=True, type=float, help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result there too, as JSON.")
@click.version_option(VERSION, package_name="skywire-apps", prog_name=NAME)
def main(
    remote: str | None, count: int, size: int, interval: float, timeout: float, as_json: bool, output: Path | None
) -> None:
    """Run the app."""
    report = Report(as_json, output)
    try:
        with App.setup(*identity(NAME, VERSION)) as app:
            if remote is None:
                signal.signal(signal.SIGTERM, lambda *_: app.stop())
                answer(app)
            else:
                ping(app, remote, count, size, interval, timeout, report)
    except (SkywireError, TimeoutError, EOFError) as error:
        end(NAME, report, error)


def answer(app: App) -> None:
    """Answer every ping of every stream until the node says stop."""
    while True:
        try:
            addr, payload = app.receive()
        except Failure as failure:
            if failure.code is ErrorCode.STOPPING:
                return
            raise
        try:
            app.send(addr, payload.translate(_PONG))
        except Failure:
            # Who pinged is gone before the pong; the others are not.
            continue


def ping(app: App, remote: str, count: int, size: int, interval: float, timeout: float, report: Report) -> None:
    """Ping and measure; raises Failure or TimeoutError."""
    began = time.perf_counter()
    with app.dial(remote, timeout) as stream:
        opened = time.perf_counter() - began
        trips = []
        for number in range(count):
            trips.append(_trip(stream, number, size, timeout))
            if count <= SHOWN:
                microseconds = round(trips[-1] * 1e6, 1)
                report.line(
                    f"pong {number + 1} from {remote}: {microseconds:.0f} us",
                    ping=number + 1,
                    microseconds=microseconds,
                )
            if interval and number + 1 < count:
                time.sleep(interval)
    fields = summary(trips)
    report.end(
        f"{count} pings of {size} bytes to {remote}: p50 {fields['p50_us']:.0f} us, p99 {fields['p99_us']:.0f} us, "
        f"opened in {opened * 1e3:.1f} ms",
        ok=True,
        remote=remote,
        count=count,
        size=size,
        open_ms=round(opened * 1e3, 3),
        **fields,
    )


def _trip(stream: Stream, number: int, size: int, timeout: float) -> float:
    request = (b"ping %d " % number)[:size].ljust(size, b".")
    began = time.perf_counter()
    stream.write(request)
    reply = stream.readexactly(size, timeout)
    took = time.perf_counter() - began
    if reply != request.translate(_PONG):
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"ping {number + 1} was not answered by its pong")
    return took


def summary(trips: Sequence[float]) -> dict[str, float]:
    """Return percentiles, extremes and mean of round trips in microseconds."""
    ordered = sorted(trips)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6, 1)

    return {
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "min_us": at(0.0),
        "max_us": at(1.0),
        "mean_us": round(sum(ordered) / len(ordered) * 1e6, 1),
    }


if __name__ == "__main__":
    main()
