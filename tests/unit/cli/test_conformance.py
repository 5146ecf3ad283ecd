"""The conformance kit: apps that keep to the protocol pass, and for every case there is an app that fails it."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from skywire_cli.conformance import run as kit
from skywire_cli.conformance.peer import FAR
from skywire_cli.conformance.run import CASES, REMOTE, Subject, Verdict
from skywire_cli.main import cli
from skywire_common.errors import LocalError

APPS = Path(__file__).parents[2] / "apps"
WIKI, BROKEN = APPS / "wiki_echo.py", APPS / "broken.py"
BIN = Path(sys.executable).parent
# A machine with much to do is no fault of the app's.
PATIENT = {"patience": 60.0, "quiet": 0.1}

# Which faults a case is there to find.
FAULTS = {
    "init": ("wrong-name", "sends-first"),
    "null-answer": ("needs-empty",),
    "empty-answer": ("needs-null",),
    "byte-by-byte": ("whole-frames-only",),
    "confirm": ("answers-with-zero", "answers-twice"),
    "loops-at-once": ("one-loop-ever",),
    "stop-and-wait": ("no-second-send", "answers-with-a-body", "id-255", "bad-base64", "sends-elsewhere"),
    "window": ("claims-window",),
    "largest": ("small-frames",),
    "spelling": ("text-of-json",),
    "empty-send": ("no-empty-sends",),
    "pieces": ("whole-frames-only",),
    "close": ("one-loop-ever",),
    "close-in-the-middle": ("mute-after-close",),
    "half-close": ("claims-half-close",),
    "refused-send": ("refusal-crash",),
    "no-answers": ("same-id",),
    "slow-reader": ("short-writes",),
    "refused-dial": ("dial-crash",),
    "closed-dial": ("closed-dial-crash",),
    "sigterm": ("sigterm-deaf",),
    "refused-init": ("ignores-refusal",),
    "eof": ("outlives-node",),
    "half-a-frame": ("outlives-node",),
    "eof-while-writing": ("outlives-reader",),
    "unknown-loop": ("hangs-on-strangers",),
    "unknown-close": ("hangs-on-strangers",),
    "no-json": ("json-hang",),
    "no-base64": ("base64-crash",),
    "unknown-type": ("unknown-crash",),
    "answer-unasked": ("unknown-crash",),
    "impossible-length": ("outlives-garbage",),
    "garbage": ("outlives-garbage",),
}


def subject(program: Path, *arguments: str, **limits: float) -> Subject:
    return Subject(program, arguments, program.stem, "1.0", **{**PATIENT, **limits})


def verdicts(results: list[kit.Result]) -> dict[str, Verdict]:
    return {result.case.name: result.verdict for result in results}


@pytest.mark.slow  # forty apps, most of which have to be waited for
def test_every_case_fails_the_app_that_it_is_there_for() -> None:
    assert list(FAULTS) == [case.name for case in CASES]
    cases = {case.name: case for case in CASES}
    pairs = [(cases[name], fault) for name, faults in FAULTS.items() for fault in faults]

    def fails(pair: tuple[kit.Case, str]) -> kit.Result:
        remote = "{remote}" if "dial" in pair[1] else REMOTE
        return kit.run_case(pair[0], subject(BROKEN, pair[1], remote, patience=0.7, quiet=0.3))

    with ThreadPoolExecutor(8) as pool:
        for (case, fault), result in zip(pairs, pool.map(fails, pairs), strict=True):
            assert result.verdict is Verdict.FAIL, (case.name, fault, result)
            assert result.detail
            # A fault that is found and not only guessed from a silence.
            assert "nothing came from it" not in result.detail, (case.name, fault, result)


def test_an_app_that_knows_only_the_wiki_keeps_to_what_matters_most() -> None:
    names = ["init", "null-answer", "confirm", "stop-and-wait", "largest", "close-in-the-middle", "refused-send", "eof"]
    results = kit.run(subject(WIKI), names, jobs=4)
    assert [result for result in results if result.verdict is not Verdict.PASS] == []


@pytest.mark.slow  # every case, each against a process of its own
def test_an_app_that_knows_only_the_wiki_passes() -> None:
    results = kit.run(subject(WIKI), jobs=4)
    assert {name for name, verdict in verdicts(results).items() if verdict is Verdict.FAIL} == set(), results
    skipped = {name for name, verdict in verdicts(results).items() if verdict is Verdict.SKIP}
    assert skipped == {"window", "half-close", "refused-dial", "closed-dial"}


def test_an_app_of_the_sdk_passes() -> None:
    names = ["init", "window", "half-close", "no-answers", "slow-reader", "sigterm", "eof"]
    results = kit.run(kit.identified(Subject(BIN / "skywire-helloworld", **PATIENT)), names, jobs=4)
    assert [result for result in results if result.verdict is not Verdict.PASS] == []


def test_an_app_may_speak_first_in_the_write_that_takes_the_loop(tmp_path: Path) -> None:
    greets = tmp_path / "greets.py"
    greets.write_text(
        WIKI.read_text().replace(
            '    write_frame(SUCCESS, number, b"null")\n',
            """    if kind in (SUCCESS, FAILURE):
        continue
    answer = struct.pack(">HBB", 6, SUCCESS, number) + b"null"
    if kind == CONFIRM_LOOP:
        local, remote = json.loads(body)
        said = json.dumps({"addr": {"port": local["port"], "remote": remote}, "payload": "aGVsbG8="}).encode()
        answer += struct.pack(">HBB", len(said) + 2, SEND, 0) + said
    os.write(4, answer)
""",
        )
    )
    greets.chmod(0o755)
    results = kit.run(subject(greets), ["confirm", "close"], jobs=2)
    assert [result for result in results if result.verdict is not Verdict.PASS] == []


# Every case starts the app anew: some seconds for each.
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        pytest.param("skywire-helloworld", (), marks=pytest.mark.slow),
        pytest.param("skywire-helloworld", ("--dial", "{remote}"), marks=pytest.mark.slow),
        pytest.param("skywire-filecopy", ("receive", "."), marks=pytest.mark.slow),
        pytest.param("skywire-filecopy", ("send", str(WIKI), "{remote}"), marks=pytest.mark.slow),
        pytest.param("skywire-forward", ("serve", "--target", "127.0.0.1:9"), marks=pytest.mark.slow),
        pytest.param("skywire-socksproxy", (), marks=pytest.mark.slow),
        pytest.param("skywire-ssh", ("--node", str(FAR)), marks=pytest.mark.slow),
        pytest.param("skywire-ssh-client", ("--socket", "sock"), marks=pytest.mark.slow),
        pytest.param("skywire-chat", ("--listen", "127.0.0.1:0"), marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(600)
def test_apps_that_ship_pass(program: str, arguments: tuple[str, ...]) -> None:
    results = kit.run(kit.identified(Subject(BIN / program, arguments, **PATIENT)), jobs=4)
    assert [result for result in results if result.verdict is Verdict.FAIL] == []


def test_the_report_is_for_people_and_for_programs() -> None:
    runner = CliRunner()
    common = ["app-conformance", "--case", "init", "--case", "unknown-type", "--name", "broken", "--version", "1.0"]
    said = runner.invoke(cli, [*common, str(BROKEN), "unknown-crash"], standalone_mode=False)
    assert said.return_value == 1
    assert "1 hold, 1 do not, 0 do not apply" in said.output
    assert "it crashed: SIGABRT" in said.output
    assert "node 0x42" in said.output
    said = runner.invoke(cli, ["--json", *common, str(BROKEN), "unknown-crash"], standalone_mode=False)
    document = json.loads(said.output)
    assert (document["app"], document["version"], document["passed"]) == ("broken", "1.0", False)
    assert [case["verdict"] for case in document["cases"]] == ["pass", "fail"]
    said = runner.invoke(cli, ["app-conformance", "--list"], standalone_mode=False)
    assert all(name in said.output for name in FAULTS)
    with pytest.raises(LocalError, match="there is no case"):
        kit.run(subject(WIKI), ["nonsense"])


def test_the_name_of_an_app_is_its_files_or_its_own(tmp_path: Path) -> None:
    assert kit.identified(Subject(WIKI)).name == "wiki_echo"
    link = tmp_path / "echo.v2.1"
    link.symlink_to(WIKI)
    assert (kit.identified(Subject(link)).name, kit.identified(Subject(link)).version) == ("echo", "2.1")
    own = kit.identified(Subject(BROKEN, ("wrong-name",)))
    assert own.name == "another", "what Init says is what a config has to say"


def test_a_program_is_found_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo-of-the-wiki").symlink_to(WIKI)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    line = ["--json", "app-conformance", "--case", "init", "--name", "echo", "--version", "1.0", "echo-of-the-wiki"]
    document = json.loads(CliRunner().invoke(cli, line, standalone_mode=False).output)
    assert document["passed"], json.dumps(document)
    assert document["program"] == str(tmp_path / "echo-of-the-wiki")
