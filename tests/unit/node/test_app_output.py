"""What apps print, in the log: whole lines, long lines, floods, and every way to end."""

from __future__ import annotations

import asyncio
import os

import pytest
import structlog
from skywire_node.apps import output
from skywire_node.apps.output import LONGEST_LINE, Output


class Lines:
    def __init__(self) -> None:
        self.got: list[str] = []
        self.news = asyncio.Event()
        self.log = structlog.wrap_logger(
            None, processors=[self.take], wrapper_class=structlog.make_filtering_bound_logger(0)
        )

    def take(self, _logger: object, _name: str, event: dict[str, object]) -> str:
        self.got.append(str(event["line"]))
        self.news.set()
        raise structlog.DropEvent

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.got) < count:
                self.news.clear()
                await self.news.wait()
        return self.got


def pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write


async def test_lines_are_logged_whole_and_the_rest_at_the_end() -> None:
    read, write = pipe()
    lines = Lines()
    Output(read, lines.log)
    os.write(write, b"one\r\ntw")
    await lines.until(1)
    os.write(write, b"o\n\xff\nthree")
    os.close(write)
    assert await lines.until(4) == ["one", "two", "\ufffd", "three"]


@pytest.mark.parametrize("writer_lives", [True, False])
async def test_closing_logs_what_is_there_whoever_still_writes(writer_lives: bool) -> None:
    read, write = pipe()
    lines = Lines()
    made = Output(read, lines.log)
    os.write(write, b"last")
    if not writer_lives:
        os.close(write)
    made.close()
    made.close()
    assert lines.got == ["last"]
    with pytest.raises(OSError):
        os.fstat(read)
    if writer_lives:
        os.close(write)


async def test_a_line_is_bounded() -> None:
    read, write = pipe()
    lines = Lines()
    made = Output(read, lines.log)
    os.write(write, b"x" * (LONGEST_LINE + 1_000))
    await lines.until(1)
    assert len(lines.got[0]) == LONGEST_LINE
    os.close(write)
    made.close()


async def test_a_flood_waits_in_the_apps_own_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BYTES_PER_S", output.READ_SIZE / 1_000)
    read, write = pipe()
    os.set_blocking(write, False)
    lines = Lines()
    made = Output(read, lines.log)
    os.write(write, (b"y" * 1_023 + b"\n") * 64)
    await lines.until(32)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(lines.got) == 32
    made.close()
    assert len(lines.got) == 64
    os.close(write)


async def test_the_last_line_with_anything_on_it_is_kept_and_is_bounded() -> None:
    read, write = pipe()
    lines = Lines()
    made = Output(read, lines.log)
    assert made.last == ""
    os.write(write, b"one\n  two  \n\n")
    await lines.until(3)
    assert made.last == "two"
    os.write(write, b"x" * 5_000 + b"\n")
    await lines.until(4)
    assert len(made.last) == output.LAST_SHOWN
    os.close(write)
    made.close()
