"""Completion as a shell asks for it: commands that are loaded late, options, and what the node has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from skywire_cli.completion import SHELLS, VARIABLE
from skywire_cli.main import run


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_lines(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert VARIABLE in script and f"{shell}_complete" in script


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("skywire nod", "node"),
        ("skywire node transports tr", "traffic"),
        ("skywire node loops a", "add"),
        ("skywire node transports list --st", "--state"),
        ("skywire node transports list --state SU", "suspect"),
        ("skywire completion z", "zsh"),
    ],
)
def test_words_are_completed(words: str, wanted: str) -> None:
    assert wanted in completed(words)


def test_without_a_node_there_is_nothing_to_choose_from_and_no_complaint() -> None:
    assert completed("skywire node apps start --socket no/such/socket ch") == [""]


def completed(words: str) -> list[str]:
    environment = {
        **os.environ,
        VARIABLE: "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "skywire_cli"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]
