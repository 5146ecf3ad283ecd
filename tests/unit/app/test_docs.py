"""The programs of docs/apps.md do what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from skywire_node.apps.run import AppSpec, AppState
from unit.node.app_world import KEY, opened

PAGE = Path(__file__).parents[3] / "docs" / "apps.md"


async def test_the_tutorials_apps_talk_to_each_other(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(programs) == 2
    async with opened(tmp_path) as world:
        for name, program in zip(("shout", "ask"), programs, strict=True):
            assert len([line for line in program.splitlines() if line.strip()]) <= 20
            world.app(name, "1.0", program.replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
        host = world.make(AppSpec("shout", "1.0", port=20), AppSpec("ask", "1.0", args=(f"{KEY}:20",)))
        host.start_app("shout")
        await world.until_state("shout", AppState.READY)
        host.start_app("ask")
        await world.until_state("ask", AppState.STOPPED)
        assert host.status("ask").reason == "exit code 0", world.lines()
        assert world.lines() == ["HELLO"]
        assert (await host.stop_app("shout")).reason.startswith("exit code 0")
