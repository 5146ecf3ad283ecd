"""Transport entries: what two edges sign and the discovery keeps (docs/wire-format.md, Transport entries).

A transport id is the UUID version 5, in the all-zero namespace, over `smaller key ‖ larger key ‖ type ‖ 01 or 00`
(public or not), so both ends and any replica agree on it. What is signed is
`transport id 16 ‖ smaller key 33 ‖ larger key 33 ‖ type`; each signature stands at its edge's index.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple
from uuid import UUID

import orjson

from skywire_common import curve
from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import PublicKey

# Bytes of a type, and of a signed entry as JSON.
MAX_TYPE_SIZE = 32
MAX_ENTRY_JSON = 2048
_EDGES = 2
_TYPE = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)


def transport_id(edge_a: PublicKey, edge_b: PublicKey, kind: str, public: bool) -> UUID:
    """Compute the id of the one transport of this kind and visibility between two nodes, in either order."""
    smaller, larger = sorted((edge_a, edge_b))
    digest = hashlib.sha1(bytes(16) + smaller + larger + kind.encode() + bytes((public,)), usedforsecurity=False)
    return UUID(bytes=digest.digest()[:16], version=5)


class Entry(NamedTuple):
    """A transport: its edges sorted, its type (for example "tcp"), and whether it is public."""

    transport_id: UUID
    edges: tuple[PublicKey, PublicKey]
    kind: str
    public: bool

    @classmethod
    def between(cls, edge_a: PublicKey, edge_b: PublicKey, kind: str, public: bool) -> Entry:
        """Make the entry of two nodes; raises LocalError if they are the same."""
        if edge_a == edge_b:
            raise LocalError("a node has no transport to itself")
        smaller, larger = sorted((edge_a, edge_b))
        return cls(transport_id(smaller, larger, kind, public), (smaller, larger), kind, public)

    def check(self) -> None:
        """Check edges, type and id; raises DecodeError that says which is wrong."""
        if self.edges[0] >= self.edges[1]:
            raise DecodeError("the edges of an entry are two different keys, the smaller first")
        if len(self.kind) > MAX_TYPE_SIZE or not _TYPE.fullmatch(self.kind):
            raise DecodeError(
                f"a transport type is at most {MAX_TYPE_SIZE} of a-z, 0-9, _ and -, not {self.kind[:40]!r}"
            )
        if self.transport_id != transport_id(*self.edges, self.kind, self.public):
            raise DecodeError("the transport id does not belong to these edges, type and visibility")

    def to_sign(self) -> bytes:
        """Return the bytes that both edges sign."""
        return self.transport_id.bytes + self.edges[0] + self.edges[1] + self.kind.encode()

    def side(self, edge: PublicKey) -> int:
        """Return 0 or 1, the edge's place; raises DecodeError if it is no edge."""
        try:
            return self.edges.index(edge)
        except ValueError as error:
            raise DecodeError(f"{edge} is no edge of transport {self.transport_id}") from error

    def other(self, edge: PublicKey) -> PublicKey:
        """Return the edge that is not `edge`."""
        return self.edges[1 - self.side(edge)]


class SignedEntry(NamedTuple):
    """An entry, its signatures (65 bytes each, empty while missing), its registration (epoch seconds or 0)."""

    entry: Entry
    signatures: tuple[bytes, bytes]
    registered: int = 0

    @classmethod
    def unsigned(cls, entry: Entry) -> SignedEntry:
        """Wrap an entry that nobody has signed yet."""
        return cls(entry, (b"", b""))

    def sign(self, secret: curve.SecretKey) -> SignedEntry:
        """Return it with this edge's signature added."""
        index = self.entry.side(secret.public)
        signature = secret.sign(self.entry.to_sign())
        first, second = self.signatures
        return self._replace(signatures=(signature, second) if index == 0 else (first, signature))

    def signed_by(self, edge: PublicKey) -> bool:
        """Say whether the edge's signature is there and right."""
        return curve.verify(edge, self.entry.to_sign(), self.signatures[self.entry.side(edge)])

    def check(self) -> None:
        """Check the entry and both signatures; raises DecodeError."""
        self.entry.check()
        for edge in self.entry.edges:
            if not self.signed_by(edge):
                raise DecodeError(f"the signature of {edge} on transport {self.entry.transport_id} is missing or wrong")

    def to_json(self) -> bytes:
        """Return the wire form: JSON without spaces, keys in the original's order."""
        document: dict[str, object] = {
            "entry": entry_to_dict(self.entry),
            "signatures": [signature.hex() for signature in self.signatures],
        }
        if self.registered:
            document["registered"] = self.registered
        return orjson.dumps(document)


def entry_to_dict(entry: Entry) -> dict[str, object]:
    """Return the JSON object of an entry, keys in the original's order."""
    return {
        "t_id": str(entry.transport_id),
        "edges": [str(edge) for edge in entry.edges],
        "type": entry.kind,
        "public": entry.public,
    }


def signed_entry_from_json(data: bytes | str) -> SignedEntry:
    """Read the wire form, any key order and spacing; raises DecodeError. Signatures are not verified here."""
    if len(data) > MAX_ENTRY_JSON:
        raise DecodeError(f"a signed entry has at most {MAX_ENTRY_JSON} bytes, not {len(data)}")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"a signed entry is JSON: {error}") from error
    return signed_entry_from_dict(document)


def signed_entry_from_dict(document: object) -> SignedEntry:
    """Read a parsed signed entry; raises DecodeError."""
    if not isinstance(document, dict):
        raise DecodeError("a signed entry is a JSON object")
    signatures = document.get("signatures")
    registered = document.get("registered", 0)
    if not isinstance(signatures, list) or len(signatures) != _EDGES:
        raise DecodeError("`signatures` is a list of two")
    if not isinstance(registered, int) or isinstance(registered, bool) or not 0 <= registered < 1 << 63:
        raise DecodeError("`registered` is epoch seconds")
    return SignedEntry(
        _entry_from_dict(document.get("entry")),
        (_signature(signatures[0]), _signature(signatures[1])),
        registered,
    )


def _entry_from_dict(document: object) -> Entry:
    if not isinstance(document, dict):
        raise DecodeError("`entry` is a JSON object")
    identity, edges, kind, public = (document.get(name) for name in ("t_id", "edges", "type", "public"))
    if not isinstance(identity, str) or not isinstance(kind, str) or not isinstance(public, bool):
        raise DecodeError("an entry has `t_id` and `type` as strings and `public` as a boolean")
    if not isinstance(edges, list) or len(edges) != _EDGES or not all(isinstance(edge, str) for edge in edges):
        raise DecodeError("`edges` is a list of two public keys")
    try:
        parsed = UUID(identity)
    except ValueError as error:
        raise DecodeError("`t_id` is a UUID") from error
    return Entry(parsed, (PublicKey.parse(edges[0]), PublicKey.parse(edges[1])), kind, public)


def _signature(text: object) -> bytes:
    if not isinstance(text, str):
        raise DecodeError("a signature is a string of hex digits")
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise DecodeError("a signature is a string of hex digits") from error
    if len(raw) not in (0, curve.SIGNATURE_SIZE):
        raise DecodeError(f"a signature has {curve.SIGNATURE_SIZE} bytes, not {len(raw)}")
    return raw
