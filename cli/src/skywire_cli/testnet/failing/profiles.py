"""The failure profiles, as data: what is done, what to look at, what to expect. Pure.

The command carries them out (`breaking`), docs/failures.md shows them (`written`), deploy/failures/ has a file of each
for compose, and tests/system/test_failure_profiles.py brings each about on real processes and holds it to every
sentence of `during` and `after`, by the word in front of it.

The network of a profile is a diamond: node 1 and node 4, and two ways between them. The app `ping` on node 1 pings
`pong` on node 4 ten times a second, and checks each answer: that is *the loop* below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from skywire_common.errors import DecodeError


class Name(StrEnum):
    """What fails."""

    DISCOVERY_DOWN = "discovery-down"
    DISCOVERY_SLOW = "discovery-slow"
    DISCOVERY_RESTORED = "discovery-restored"
    SETUP_NODE_KILLED = "setup-node-killed"
    LINK_BLACK_HOLE = "link-black-hole"
    LINK_SLOW = "link-slow"
    LINK_FLAPPING = "link-flapping"
    CLOCK_SKEWED = "clock-skewed"
    SLOW_READER = "slow-reader"
    DISK_FULL = "disk-full"


# Of an answer of the slow discovery: more than a step of a set-up may take (2 s), and F10's figure.
DISCOVERY_DELAY_S = 5.0
SLOW_BYTES_PER_S = 25_000.0
SLOW_DELAY_S = 0.2
FLAP_UP_S, FLAP_DOWN_S = 4.0, 1.0
SKEW_S = 600.0
# Of each second the slow reader runs so much.
READER_RUNS_S = 0.02
# So much may a file have when the disk is full: less than any database.
FULL_AT_BYTES = 4096


@dataclass(frozen=True)
class Profile:
    """One failure. `look` are commands for a testnet, `compose` those that bring it about in containers."""

    name: Name
    brief: str
    done: str
    undone: str
    look: tuple[str, ...]
    during: Mapping[str, str]
    after: Mapping[str, str]
    compose: tuple[str, ...]


_LOOP = "skywire node loops --node 1"
_EXPLAIN = "skywire loop explain --node 1"
_STATUS = "skywire status --node 1"
_DOCTOR = "skywire doctor --node 1"
_LINKS = "skywire node transports list --node 1"
_DISCOVERY = "skywire discovery status"
_GOES_ON = "the loop goes on as the same loop, with every byte"


def _compose(words: str, override: Name | None = None) -> str:
    """Return a command for the containers of deploy/compose.yaml."""
    also = f" -f deploy/failures/{override}.yaml" if override is not None else ""
    return f"docker compose -f deploy/compose.yaml{also} --profile mesh {words}"


def _from_start(name: Name) -> tuple[str, ...]:
    """Return the command that brings containers up with a failure."""
    return (_compose("up --wait", name),)


def _on(name: Name, *services: str) -> tuple[str, ...]:
    """Return the command that puts an override in force on containers that run."""
    return (_compose(" ".join(("up --detach --no-deps", *services)), name),)


PROFILES: tuple[Profile, ...] = (
    Profile(
        Name.DISCOVERY_DOWN,
        "the discovery is killed and stays away",
        "the discovery gets SIGKILL",
        "it is started again, on its address and database",
        (_STATUS, _DOCTOR, _LOOP),
        {
            "says so": "every node says DEGRADED and names the discovery within 45 s, after its next heartbeat",
            "doctor": "the doctor finds DISCOVERY_AWAY",
            "goes on": _GOES_ON,
            "dials": "apps dial, over the routes that their node saw last",
        },
        {"recovers": "every node is READY within 60 s, and none was started again"},
        (_compose("kill discovery-1 discovery-2"), *_on(Name.DISCOVERY_DOWN, "discovery-1", "discovery-2")),
    ),
    Profile(
        Name.DISCOVERY_SLOW,
        f"the discovery answers {DISCOVERY_DELAY_S:.0f} s late",
        f"what others say to the discovery, and what it answers, is {DISCOVERY_DELAY_S / 2:.1f} s on its way each",
        "it passes at once again",
        (_STATUS, _LOOP, _DISCOVERY),
        {
            "owner": "every node answers its owner within 2 s: nothing in it waits for the discovery",
            "goes on": _GOES_ON,
            "dials": "apps dial, over the routes that their node saw last",
        },
        {"recovers": "every node is READY within 60 s, and none was started again"},
        _from_start(Name.DISCOVERY_SLOW),
    ),
    Profile(
        Name.DISCOVERY_RESTORED,
        "the discovery gets an old backup back",
        "its database is copied; node 2 starts again; then the discovery is stopped, gets the copy, and is started",
        "nothing: the network heals it",
        ("skywire discovery nodes", "skywire discovery transports", _LOOP),
        {
            "goes on": _GOES_ON,
            "heals": "within 90 s, two rounds of every node, it knows every node and every link again, as they are now",
            "routes": "and finds routes over them",
        },
        {"recovers": "every node is READY within 60 s, and none was started again"},
        (
            _compose("run --rm backup", Name.DISCOVERY_RESTORED),
            _compose("restart mesh-2"),
            _compose("stop discovery-1 discovery-2"),
            _compose("run --rm restore", Name.DISCOVERY_RESTORED),
            _compose("start discovery-1 discovery-2"),
        ),
    ),
    Profile(
        Name.SETUP_NODE_KILLED,
        "the setup node that is asked first is killed",
        "setup-node1 gets SIGKILL",
        "it is started again, on its address",
        (_DOCTOR, _LOOP, "skywire testnet logs setup-node2"),
        {
            "doctor": "the doctor finds SETUP_NODE_AWAY",
            "goes on": _GOES_ON,
            "dials": "apps dial within 10 s: the next setup node is asked",
        },
        {"recovers": "every node is READY within 60 s, and none was started again"},
        (_compose("kill setup-node-1"), *_on(Name.SETUP_NODE_KILLED, "setup-node-1")),
    ),
    Profile(
        Name.LINK_BLACK_HOLE,
        "a link swallows everything, and nobody is told",
        "the link of node 1 that carries the loop lets nothing pass, in either direction; connections stay",
        "what was held passes, and what follows",
        (_LINKS, _LOOP, _EXPLAIN),
        {
            "goes on": _GOES_ON,
            "leaves": "it leaves that link within 15 s",
            "down": "the link is down at both ends within 45 s",
        },
        {"up": "the link is up again within 90 s"},
        _from_start(Name.LINK_BLACK_HOLE),
    ),
    Profile(
        Name.LINK_SLOW,
        f"a link passes {SLOW_BYTES_PER_S * 8 / 1000:.0f} kbit/s, {SLOW_DELAY_S * 1000:.0f} ms late",
        f"the link of node 1 that carries the loop passes {SLOW_BYTES_PER_S:,.0f} bytes a second and delays each by"
        f" {SLOW_DELAY_S * 1000:.0f} ms, both ways",
        "it is as fast as before",
        (_LINKS, _LOOP, "skywire top --node 1 --count 1"),
        {
            "goes on": _GOES_ON,
            "stays up": "the link is never taken for dead: slow is no failure",
        },
        {"up": "the link is up"},
        _from_start(Name.LINK_SLOW),
    ),
    Profile(
        Name.LINK_FLAPPING,
        f"a link is cut for {FLAP_DOWN_S:.0f} s, again and again",
        f"the link of node 1 that carries the loop is cut for {FLAP_DOWN_S:.0f} s, then whole for {FLAP_UP_S:.0f} s,"
        " and so on",
        "it stays whole",
        (_LINKS, _LOOP, _EXPLAIN),
        {
            "goes on": _GOES_ON,
            "damped": "it is dialled again by chance, within bounds that double: fewer than five times for each cut",
        },
        {"up": "the link is up again within 90 s"},
        _from_start(Name.LINK_FLAPPING),
    ),
    Profile(
        Name.CLOCK_SKEWED,
        f"a node's clock is {SKEW_S / 60:.0f} minutes ahead",
        f"node 1 starts again with a clock that is {SKEW_S / 60:.0f} minutes ahead",
        "it starts again with the right clock",
        (_STATUS, _LOOP, _DISCOVERY),
        {
            "ready": "node 1 is READY: it learns each peer's clock from the first refusal and tries once more",
            "dials": "its apps dial, and the loop goes on",
            "counted": 'discovery and setup node count the refusals: skywire_rpc_refused_total{reason="skewed"}',
        },
        {"ready": "node 1 is READY"},
        _on(Name.CLOCK_SKEWED, "mesh-1"),
    ),
    Profile(
        Name.SLOW_READER,
        "an app reads so slowly that nearly nothing gets through",
        f"`sink` on node 4, to which `flood` on node 1 sends all that it can, runs"
        f" {READER_RUNS_S * 1000:.0f} ms of each second",
        "it runs all the time",
        (_LOOP, "skywire node summary --node 4", "skywire top --node 4 --count 1"),
        {
            "goes on": "other loops over the same links go on, with every byte",
            "waits": "who sends to it waits, and no byte is lost",
            "bounded": "no node's memory grows by more than 64 MiB",
        },
        {"flows": "what was held flows again within 30 s"},
        _on(Name.SLOW_READER, "mesh-1", "slow-reader"),
    ),
    Profile(
        Name.DISK_FULL,
        "the disk is full",
        f"no process can write past byte {FULL_AT_BYTES} of any file (RLIMIT_FSIZE, EFBIG). If --dir is on"
        " a file system of less than 1 GiB, that is filled instead (ENOSPC)",
        "the limit is lifted, or what filled it is removed",
        (_STATUS, _DISCOVERY, _LOOP),
        {
            "says so": "the discovery says NOT_SERVING within 30 s, and why",
            "goes on": _GOES_ON,
            "owner": "every node answers its owner within 2 s",
        },
        {"recovers": "the discovery serves within 30 s, every node is READY within 60 s, and none was started again"},
        (_compose("up --detach", Name.DISK_FULL),),
    ),
)


def profile(name: str) -> Profile:
    """Return a profile by its name; raises DecodeError."""
    for one in PROFILES:
        if one.name == name:
            return one
    raise DecodeError(f"there is no failure {name}: {', '.join(one.name for one in PROFILES)}")


def document(one: Profile) -> dict[str, object]:
    """Return a profile's JSON form."""
    return {
        "name": one.name.value,
        "brief": one.brief,
        "done": one.done,
        "undone": one.undone,
        "look": list(one.look),
        "during": list(one.during.values()),
        "after": list(one.after.values()),
        "compose": list(one.compose),
    }


def written(one: Profile) -> str:
    """Return a profile as a section of docs/failures.md."""
    lines = [f"### {one.name.value}", f"{_sentence(one.brief)}", ""]
    lines += ["```sh", f"skywire testnet up --failure {one.name.value} --detach", *one.look, "```", ""]
    lines += [f"- Done: {one.done}. Undone: {one.undone}."]
    lines += [f"- Expected: {'; '.join(one.during.values())}. Afterwards {'; '.join(one.after.values())}."]
    lines += ["- In containers:", "  ```sh", *(f"  {command}" for command in one.compose), "  ```"]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
