"""What the API takes and gives, as OpenAPI says it; the bodies themselves are read and written by hand, to the byte."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MAX_ITEMS = 256

KEY_PATTERN = "^0[23][0-9a-f]{64}$"
ID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

Key = Annotated[str, Field(pattern=KEY_PATTERN, description="A public key, 33 bytes in hex")]
Signature = Annotated[str, Field(pattern="^[0-9a-f]{130}$", description="r, s, recovery id: 65 bytes in hex")]
TransportId = Annotated[
    str,
    Field(pattern=ID_PATTERN, description="A UUID, computed from edges, type and public"),
]
Kind = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,31}$", examples=["tcp", "messaging"])]


class Entry(BaseModel):
    """A transport."""

    t_id: TransportId
    edges: Annotated[list[Key], Field(min_length=2, max_length=2, description="The smaller first")]
    type: Kind
    public: bool


class SignedEntry(BaseModel):
    """A transport with its edges' signatures, each at its edge's index."""

    entry: Entry
    signatures: Annotated[list[Signature], Field(min_length=2, max_length=2)]
    registered: Annotated[int, Field(ge=0, description="Epoch seconds of the first registration")] = 0


class EntryWithStatus(BaseModel):
    """A transport and its state."""

    entry: Entry
    is_up: bool
    registered: int
    statuses: Annotated[list[bool], Field(min_length=2, max_length=2, description="What each edge said last")]


class Status(BaseModel):
    """What the caller says of a transport of its own."""

    t_id: TransportId
    is_up: bool


class NextNonce(BaseModel):
    """The nonce that the key's next signed request must bear."""

    edge: Key
    next_nonce: Annotated[int, Field(ge=0)]


class Health(BaseModel):
    """The service serves."""

    status: str


class ErrorText(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(title="Error")
    error: str


class NonceDetail(BaseModel):
    """As the original's client wants it."""

    message: str
    code: int


class NonceError(BaseModel):
    """The nonce is not the next one."""

    error: NonceDetail


def schema_of(kind: Any) -> dict[str, object]:
    """Return the JSON schema of a request body that is a list of `kind`, references resolved."""
    schema = TypeAdapter(kind).json_schema()
    definitions = schema.pop("$defs")
    schema.update(maxItems=MAX_ITEMS)
    return _resolved(schema, definitions)  # type: ignore[no-any-return]


def _resolved(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolved(one, definitions) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _resolved(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _resolved(one, definitions) for name, one in part.items()}
