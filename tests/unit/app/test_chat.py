"""Two chats: what is written arrives once, whoever is away when; what is shown is told; strangers are bounded."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from skywire_app import App
from skywire_apps.chat import friend, store, wire
from skywire_apps.chat.store import Kind, Store
from skywire_apps.chat.talk import Event, Talk
from skywire_apps.chat.wire import Asking, Delivered, Message, Read, Refused, State
from skywire_apps.report import Report
from skywire_common.errors import DecodeError, Failure
from skywire_common.keys import PublicKey
from unit.app.node_side import Attached, Node
from unit.waiting import until

ANN, BOB = PublicKey(b"\x02" + bytes(range(32))), PublicKey(b"\x03" + bytes(range(32)))
ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "said",
    [
        Message(ID, 1_700_000_000_000, "zwölf <b>Boxkämpfer</b>\n\0"),
        Delivered((ID,)),
        Read((ID, ID)),
        Asking(()),
        Refused(ID, "no"),
    ],
)
def test_what_is_said_is_read_back(said: wire.Said) -> None:
    data = wire.encode(said)
    size = wire.frame_size(data[: wire.LENGTH_SIZE])
    assert len(data) == wire.LENGTH_SIZE + size
    assert wire.decode(data[wire.LENGTH_SIZE :]) == said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 50_000,
        b'{"say":"x"}',
        b'{"say":[]}',
        b'{"say":"read","ids":"' + ID.encode() + b'"}',
        b'{"say":"read","ids":["x"]}',
        b'{"say":"message","id":"' + ID.encode() + b'","at":-1,"text":"x"}',
        b'{"say":"message","id":"' + ID.encode() + b'","at":true,"text":"x"}',
        b'{"say":"message","id":"' + ID.encode() + b'","at":1,"text":" "}',
        b'{"say":"message","id":"' + ID.encode() + b'","at":1,"text":"\\ud800"}',
    ],
)
def test_what_no_chat_says_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        wire.decode(body)


def test_what_is_said_is_bounded() -> None:
    longest = Message(ID, 0, "\0" * wire.MAX_CHARACTERS)
    assert wire.decode(wire.encode(longest)[wire.LENGTH_SIZE :]) == longest
    assert len(wire.encode(Read((ID,) * wire.MAX_IDS))) < wire.MAX_FRAME
    with pytest.raises(DecodeError):
        wire.check_text("x" * (wire.MAX_CHARACTERS + 1))
    with pytest.raises(DecodeError):
        wire.frame_size((wire.MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(DecodeError):
        wire.decode(json.dumps({"say": "read", "ids": [ID] * (wire.MAX_IDS + 1)}).encode())
    cut = Refused(ID, "x" * wire.MAX_WHY)
    assert wire.decode(wire.encode(Refused(ID, "x" * 1_000))[wire.LENGTH_SIZE :]) == cut
    assert wire.decode(json.dumps({"say": "refused", "id": ID, "why": "x" * 1_000}).encode()) == cut


def message(number: int) -> Message:
    return Message(f"{number:032x}", number, f"text {number}")


def test_what_others_leave_on_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store(tmp_path / "history")
    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o600
    for number in range(store.MAX_FROM_STRANGER):
        assert kept.take(str(ANN), message(number)) is not None
    with pytest.raises(Failure, match="unanswered"):
        kept.take(str(ANN), message(1_000))
    for number in range(1, store.MAX_STRANGERS):
        kept.take(f"{number:066x}", message(0))
    with pytest.raises(Failure, match="strangers"):
        kept.take(str(BOB), message(0))
    kept.put_contact(str(ANN), "Ann")
    monkeypatch.setattr(store, "MAX_HISTORY", 30)
    for number in range(1_000, 1_040):
        kept.take(str(ANN), message(number))
    assert len(kept.page(str(ANN), None, 200)) == 30
    monkeypatch.setattr(store, "MAX_WAITING", 3)
    for number in range(3):
        kept.write(str(ANN), message(number))
    with pytest.raises(Failure, match="waiting"):
        kept.write(str(ANN), message(3))
    kept.close()


def test_a_page_is_bounded(tmp_path: Path) -> None:
    kept = Store(tmp_path / "history")
    kept.put_contact(str(ANN), "Ann")
    for number in range(store.MAX_PAGE + 1):
        kept.take(str(ANN), message(number))
    page = kept.page(str(ANN), None, 1 << 40)
    assert [entry.id for entry in page] == [message(number).id for number in range(1, store.MAX_PAGE + 1)]
    kept.close()


def test_contacts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_CONTACTS", 20)
    kept = Store(tmp_path / "history")
    for number in range(store.MAX_CONTACTS):
        kept.put_contact(f"{number:066x}", "x" * 1_000)
    assert len(kept.contacts()[0].name) == store.MAX_NAME
    kept.put_contact(f"{1:066x}", "another name for one of them")
    with pytest.raises(Failure, match="contacts"):
        kept.put_contact(str(ANN), "Ann")
    kept.close()


def test_a_message_never_goes_back_and_one_under_way_waits_again_after_a_crash(tmp_path: Path) -> None:
    kept = Store(tmp_path / "history")
    key = str(ANN)
    kept.put_contact(key, "Ann")
    for number in range(3):
        kept.write(key, message(number))
    ids = [message(number).id for number in range(3)]
    kept.advance(key, ids, State.SENT)
    kept.advance(key, ids[:1], State.READ)
    assert kept.advance(key, ids[:1], State.DELIVERED) == []
    assert kept.advance(key, ids[:1], State.REFUSED, "late") == []
    kept.close()
    kept = Store(tmp_path / "history")
    assert [entry.id for entry in kept.waiting(key, 9)] == ids[1:]
    assert [entry.state for entry in kept.page(key, None, 9)] == [State.READ, State.WAITING, State.WAITING]
    kept.close()


class Chat:
    """One chat on a node of this process."""

    def __init__(self, app: App, attached: Attached, kept: Store, own: PublicKey) -> None:
        self.app, self.attached, self.store = app, attached, kept
        self.talk = Talk(app, kept, own, Report(True, None))
        self.talk.watchers.append(self.heard)
        self.news = asyncio.Event()

    def heard(self, event: Event) -> None:
        self.news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        await until(self.news, is_so)

    def states(self, contact: PublicKey) -> list[str]:
        return [entry.state.name for entry in self.store.page(str(contact), None, 200) if entry.mine]

    def texts(self, contact: PublicKey) -> list[str]:
        return [entry.text for entry in self.store.page(str(contact), None, 200) if not entry.mine]


@asynccontextmanager
async def chat(node: Node, folder: Path) -> AsyncIterator[Chat]:
    with node.app("chat", "1.0", port=1) as attached:
        app = await App.setup("chat", "1.0", sigterm=False)
    made = Chat(app, attached, Store(folder / f"{node.key}.sqlite"), node.key)

    async def serve() -> None:
        async for stream in app:
            await made.talk.take(stream)

    serving = asyncio.create_task(serve())
    await made.talk.greet()
    try:
        yield made
    finally:
        app.stop()
        await serving
        await made.talk.close()
        await app.close()
        del node.listeners[1]
        made.store.close()


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Node, Node]]:
    for name in ("FIRST_DELAY_S", "LONGEST_DELAY_S", "LEAST_DELAY_S"):
        monkeypatch.setattr(friend, name, 0.01)
    ann, bob = Node(ANN), Node(BOB)
    ann.others[BOB], bob.others[ANN] = bob, ann
    yield ann, bob
    ann.close()
    bob.close()


async def test_messages_arrive_and_how_far_they_are_is_told(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    async with chat(nodes[0], tmp_path) as ann, chat(nodes[1], tmp_path) as bob:
        ann.talk.add(str(BOB), "  Bob \n B. ")
        ann.talk.send(str(BOB), "hello")
        await ann.until(lambda: ann.states(BOB) == ["DELIVERED"])
        assert bob.talk.contacts()[0]["kind"] is Kind.STRANGER
        bob.talk.add(str(ANN), "Ann")
        for number in range(100):
            ann.talk.send(str(BOB), f"number {number}")
        await ann.until(lambda: set(ann.states(BOB)) == {"DELIVERED"})
        assert bob.texts(ANN) == ["hello", *(f"number {number}" for number in range(100))]
        (contact,) = bob.talk.contacts()
        assert (contact["kind"], contact["unread"], contact["online"]) == (Kind.FRIEND, 101, True)
        bob.talk.show(str(ANN), 1 << 60)
        await ann.until(lambda: set(ann.states(BOB)) == {"READ"})
        bob.talk.send(str(ANN), "an answer on the same stream")
        await bob.until(lambda: bob.states(ANN) == ["DELIVERED"])
        (seen,) = ann.talk.contacts()
        assert (seen["name"], seen["unread"], seen["online"]) == ("Bob B.", 1, True)
        assert len(ann.attached.session.loops) == 1


async def test_messages_wait_for_who_is_away_and_the_question_whether_they_were_seen_too(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    async with chat(nodes[0], tmp_path) as ann:
        ann.talk.add(str(BOB), "Bob")
        ann.talk.send(str(BOB), "are you there?")
        await ann.until(lambda: "PORT_CLOSED" in str(ann.talk.contacts()[0]["problem"]))
        assert ann.states(BOB) == ["WAITING"]
        async with chat(nodes[1], tmp_path) as bob:
            await ann.until(lambda: ann.states(BOB) == ["DELIVERED"])
        await ann.until(lambda: not ann.talk.contacts()[0]["online"])
        ann.talk.send(str(BOB), "and again")
    async with chat(nodes[1], tmp_path) as bob:
        assert bob.texts(ANN) == ["are you there?"]
        bob.talk.show(str(ANN), 1 << 60)
        async with chat(nodes[0], tmp_path) as ann:
            await ann.until(lambda: ann.states(BOB) == ["READ", "DELIVERED"])
            assert bob.texts(ANN) == ["are you there?", "and again"]


async def test_a_message_whose_answer_was_lost_arrives_once(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    async with chat(nodes[0], tmp_path) as ann, chat(nodes[1], tmp_path) as bob:
        ann.talk.add(str(BOB), "Bob")
        entry = ann.talk.send(str(BOB), "once")
        await ann.until(lambda: ann.states(BOB) == ["DELIVERED"])
        ann.store._sql.execute("UPDATE messages SET state = ?", (State.WAITING,))
        ann.talk._friend(str(BOB)).say()
        await ann.until(lambda: ann.states(BOB) == ["DELIVERED"])
        assert bob.texts(ANN) == ["once"]
        assert entry["state"] == "waiting"


async def test_who_is_blocked_is_told_and_who_writes_garbage_is_cut_off(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    async with chat(nodes[0], tmp_path) as ann, chat(nodes[1], tmp_path) as bob:
        bob.talk.add(str(ANN), "Ann")
        await bob.until(lambda: bool(bob.talk.contacts()[0]["online"]))
        await bob.talk.block(str(ANN), True)
        with pytest.raises(Failure, match="blocked"):
            bob.talk.send(str(ANN), "no")
        ann.talk.add(str(BOB), "Bob")
        ann.talk.send(str(BOB), "hello?")
        await ann.until(lambda: ann.states(BOB) == ["REFUSED"])
        assert bob.texts(ANN) == []
        await bob.talk.block(str(ANN), False)
        ann.talk.send(str(BOB), "hello again")
        await ann.until(lambda: ann.states(BOB) == ["REFUSED", "DELIVERED"])
        with pytest.raises(DecodeError, match="this node"):
            ann.talk.add(str(ANN), "me")
        async with ann.app.dial(f"{BOB}:1") as stream:
            stream.write(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(Failure):
                while True:
                    stream.write(b"x")
                    await stream.drain()
                    await asyncio.wait_for(stream.read(1), 20)
        await ann.talk.remove(str(BOB))
        assert ann.talk.contacts() == []


async def test_streams_of_one_contact_are_bounded(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    async with chat(nodes[0], tmp_path) as ann, chat(nodes[1], tmp_path) as bob:
        streams = [await ann.app.dial(f"{BOB}:1") for _ in range(friend.MAX_STREAMS + 1)]
        assert await asyncio.wait_for(streams[-1].read(), 20) == b""
        assert len(bob.talk._friend(str(ANN))._streams) == friend.MAX_STREAMS
        for stream in streams:
            await stream.close()
        await bob.until(lambda: str(ANN) not in bob.talk._friends)


async def test_the_wikis_app_is_a_contact_that_says_everything_back(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    async with chat(nodes[0], tmp_path) as ann:
        with nodes[1].app("echo", "1.0", port=1):
            echo = await App.setup("echo", "1.0", sigterm=False)

        async def say_back() -> None:
            while True:
                addr, payload = await echo.receive()
                echo.send(addr, payload)

        saying = asyncio.create_task(say_back())
        ann.talk.add(str(BOB), "Echo")
        ann.talk.send(str(BOB), "hello")
        await ann.until(lambda: ann.states(BOB) == ["DELIVERED"])
        assert ann.texts(BOB) == ["hello"]
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        await echo.close()
