"""Contacts and history on disk, in one SQLite file that is its user's alone.

A contact is a FRIEND, a STRANGER who wrote first, or BLOCKED. Everything that others can make grow is bounded:
strangers, what a stranger may leave before somebody answers, and the history of each contact.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from skywire_common.errors import ErrorCode, Failure, LocalError

from skywire_apps.chat.wire import Message, State

MAX_CONTACTS = 500
MAX_STRANGERS = 50
# A stranger's messages that nobody has answered by making a friend of them.
MAX_FROM_STRANGER = 20
MAX_WAITING = 1_000
MAX_HISTORY = 100_000
MAX_NAME = 80
MAX_PAGE = 200
# How many at the end of a conversation are asked about: who has not seen those has not seen the rest.
ASKED = 200

_SCHEMA = """
CREATE TABLE IF NOT EXISTS contacts (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, contact TEXT NOT NULL, mine INTEGER NOT NULL, id TEXT NOT NULL,
    at INTEGER NOT NULL, text TEXT NOT NULL, state INTEGER NOT NULL, why TEXT NOT NULL DEFAULT '',
    UNIQUE (contact, mine, id)
) STRICT;
CREATE INDEX IF NOT EXISTS by_contact ON messages (contact, seq);
CREATE INDEX IF NOT EXISTS by_state ON messages (contact, mine, state);
"""
_COLUMNS = "seq, contact, mine, id, at, text, state, why"


class Kind(StrEnum):
    """Who a contact is to the owner of this chat."""

    FRIEND = "friend"
    STRANGER = "stranger"
    BLOCKED = "blocked"


class Entry(NamedTuple):
    """One message of the history; `state` of another's message is DELIVERED or READ (shown here)."""

    seq: int
    contact: str
    mine: bool
    id: str
    at: int
    text: str
    state: State
    why: str


class Contact(NamedTuple):
    """A contact, what of theirs was not shown yet, and the last message of the conversation."""

    key: str
    name: str
    kind: Kind
    unread: int
    last: Entry | None


class Store:
    """The file. Every change is on disk when its method returns. Raises LocalError if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        try:
            # Made before SQLite sees it, so that nobody else can open it in between.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._sql = sqlite3.connect(path, isolation_level=None)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.executescript(_SCHEMA)
            # Whatever was under way when the app ended has to be sent again.
            self._sql.execute("UPDATE messages SET state = ? WHERE mine AND state = ?", (State.WAITING, State.SENT))
        except (OSError, sqlite3.Error) as error:
            raise LocalError(f"the history {path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    # Contacts.

    def contacts(self) -> list[Contact]:
        """Return all contacts, those with the newest message first."""
        rows = self._sql.execute(
            "SELECT c.key, c.name, c.kind,"
            " (SELECT count(*) FROM messages u WHERE u.contact = c.key AND NOT u.mine AND u.state = ?),"
            " (SELECT max(seq) FROM messages l WHERE l.contact = c.key) AS newest"
            " FROM contacts c ORDER BY newest IS NULL, newest DESC, c.name",
            (State.DELIVERED,),
        )
        return [
            Contact(key, name, Kind(kind), unread, self._entry(newest) if newest is not None else None)
            for key, name, kind, unread, newest in rows.fetchall()
        ]

    def keys(self) -> list[str]:
        """Return the keys of all contacts who are not blocked."""
        return [key for (key,) in self._sql.execute("SELECT key FROM contacts WHERE kind != ?", (Kind.BLOCKED,))]

    def kind(self, key: str) -> Kind | None:
        """Return who somebody is; None if unknown."""
        row = self._sql.execute("SELECT kind FROM contacts WHERE key = ?", (key,)).fetchone()
        return None if row is None else Kind(row[0])

    def put_contact(self, key: str, name: str, kind: Kind = Kind.FRIEND) -> None:
        """Add somebody, or change name and kind; raises Failure over 500 contacts."""
        name = " ".join(name.split())[:MAX_NAME] or key[:10]
        if self.kind(key) is None:
            self._check_room("contacts", MAX_CONTACTS, self._count("SELECT count(*) FROM contacts"))
        self._sql.execute(
            "INSERT INTO contacts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET name = excluded.name,"
            " kind = excluded.kind",
            (key, name, kind),
        )

    def remove_contact(self, key: str) -> None:
        """Forget somebody and the conversation."""
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.execute("DELETE FROM messages WHERE contact = ?", (key,))
            self._sql.execute("DELETE FROM contacts WHERE key = ?", (key,))

    # Messages.

    def write(self, key: str, message: Message) -> Entry:
        """Keep an own message until it is sent; raises Failure if too many wait already."""
        waiting = "SELECT count(*) FROM messages WHERE contact = ? AND mine AND state <= ?"
        self._check_room("waiting", MAX_WAITING, self._count(waiting, key, State.SENT))
        return self._insert(key, message, mine=True, state=State.WAITING)

    def take(self, key: str, message: Message) -> Entry | None:
        """Keep what somebody sent; None if it is there already. Raises Failure if it is not to be taken."""
        kind = self.kind(key)
        if kind is Kind.BLOCKED:
            raise Failure(ErrorCode.PERMISSION_DENIED, "this chat takes nothing from you")
        if self._find(key, message.id, mine=False) is not None:
            return None
        if kind is None:
            strangers = "SELECT count(*) FROM contacts WHERE kind = ?"
            self._check_room("strangers", MAX_STRANGERS, self._count(strangers, Kind.STRANGER))
            self.put_contact(key, "", Kind.STRANGER)
        elif kind is Kind.STRANGER:
            left = self._count("SELECT count(*) FROM messages WHERE contact = ? AND NOT mine", key)
            self._check_room("unanswered", MAX_FROM_STRANGER, left)
        return self._insert(key, message, mine=False, state=State.DELIVERED)

    def waiting(self, key: str, most: int) -> list[Entry]:
        """Return own messages that nobody has sent yet, oldest first."""
        return self._entries("contact = ? AND mine AND state = ? ORDER BY seq LIMIT ?", key, State.WAITING, most)

    def unseen(self, key: str) -> tuple[str, ...]:
        """Return the ids of the last ASKED own messages that were delivered and, as far as is known here, not seen."""
        asked = self._entries(
            "contact = ? AND mine AND state = ? ORDER BY seq DESC LIMIT ?", key, State.DELIVERED, ASKED
        )
        return tuple(entry.id for entry in asked)

    def shown(self, key: str, ids: Iterable[str]) -> tuple[str, ...]:
        """Return those of somebody's messages that were shown here."""
        found = (self._find(key, one, mine=False) for one in ids)
        return tuple(entry.id for entry in found if entry is not None and entry.state is State.READ)

    def page(self, key: str, before: int | None, most: int) -> list[Entry]:
        """Return the last messages before `before` (a seq), oldest first."""
        limit = min(most, MAX_PAGE)
        found = self._entries("contact = ? AND seq < ? ORDER BY seq DESC LIMIT ?", key, before or 1 << 62, limit)
        return found[::-1]

    def advance(self, key: str, ids: Iterable[str], state: State, why: str = "") -> list[Entry]:
        """Move own messages on; none ever goes back. Return those that changed."""
        changed = []
        for one in ids:
            entry = self._find(key, one, mine=True)
            if entry is not None and entry.state < state and entry.state is not State.READ:
                self._sql.execute("UPDATE messages SET state = ?, why = ? WHERE seq = ?", (state, why, entry.seq))
                changed.append(entry._replace(state=state, why=why))
        return changed

    def give_back(self, key: str) -> list[Entry]:
        """Let what was under way on a stream that is over wait again."""
        entries = self._entries("contact = ? AND mine AND state = ?", key, State.SENT)
        self._sql.execute(
            "UPDATE messages SET state = ? WHERE contact = ? AND mine AND state = ?", (State.WAITING, key, State.SENT)
        )
        return [entry._replace(state=State.WAITING) for entry in entries]

    def show(self, key: str, up_to: int) -> tuple[str, ...]:
        """Note that messages up to `up_to` (a seq) were shown; return the ids of those that were not shown before."""
        fresh = self._entries("contact = ? AND NOT mine AND state = ? AND seq <= ?", key, State.DELIVERED, up_to)
        self._sql.execute(
            "UPDATE messages SET state = ? WHERE contact = ? AND NOT mine AND state = ? AND seq <= ?",
            (State.READ, key, State.DELIVERED, up_to),
        )
        return tuple(entry.id for entry in fresh)

    # Within.

    def _insert(self, key: str, message: Message, *, mine: bool, state: State) -> Entry:
        try:
            seq = self._insert_in_turn(key, message, mine=mine, state=state)
        except sqlite3.OperationalError as error:
            raise Failure(ErrorCode.UNAVAILABLE, f"the history cannot be written: {error}") from error
        return Entry(seq, key, mine, message.id, message.at, message.text, state, "")

    def _insert_in_turn(self, key: str, message: Message, *, mine: bool, state: State) -> int:
        with self._sql:
            self._sql.execute("BEGIN IMMEDIATE")
            row = self._sql.execute(
                "INSERT INTO messages (contact, mine, id, at, text, state) VALUES (?, ?, ?, ?, ?, ?) RETURNING seq",
                (key, mine, message.id, message.at, message.text, state),
            ).fetchone()
            self._sql.execute(
                "DELETE FROM messages WHERE contact = ? AND seq <="
                " (SELECT seq FROM messages WHERE contact = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (key, key, MAX_HISTORY),
            )
        return int(row[0])

    def _find(self, key: str, message_id: str, *, mine: bool) -> Entry | None:
        found = self._entries("contact = ? AND mine = ? AND id = ?", key, mine, message_id)
        return found[0] if found else None

    def _entry(self, seq: int) -> Entry | None:
        found = self._entries("seq = ?", seq)
        return found[0] if found else None

    def _entries(self, where: str, *values: object) -> list[Entry]:
        rows = self._sql.execute(f"SELECT {_COLUMNS} FROM messages WHERE {where}", values)  # noqa: S608 (constants)
        return [
            Entry(seq, contact, bool(mine), one, at, text, State(state), why)
            for seq, contact, mine, one, at, text, state, why in rows.fetchall()
        ]

    def _count(self, sql: str, *values: Any) -> int:
        return int(self._sql.execute(sql, values).fetchone()[0])

    def _check_room(self, what: str, most: int, have: int) -> None:
        """Raise Failure if there are as many as there may be; `what` is part of the limit's name too."""
        if have >= most:
            raise Failure(ErrorCode.LIMIT_REACHED, f"there are {most} {what} already").within(limit=f"chat_{what}")
