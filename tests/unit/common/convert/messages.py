"""Random protobuf messages: every field of a type filled with anything that its wire type holds."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

# Sizes that mean something somewhere, so that random fields also get past the first check.
_SIZES = (0, 1, 16, 29, 33, 49, 50, 65)
_BYTES = st.sampled_from(_SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size)) | st.binary(max_size=70)
_KEYS = st.binary(min_size=32, max_size=32).map(lambda raw: b"\x02" + raw)
_SCALARS: dict[int, Any] = {
    FieldDescriptor.TYPE_BYTES: _BYTES | _KEYS,
    FieldDescriptor.TYPE_STRING: st.text(max_size=40),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_UINT32: st.integers(0, (1 << 32) - 1) | st.integers(0, 70_000),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, (1 << 64) - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, (1 << 64) - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(0, 8),
}


def messages(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Return a strategy of messages of this type, any field set or not."""
    return _fields(kind.DESCRIPTOR).map(lambda values: kind(**values))


def _fields(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={field.name: _value(field) for field in descriptor.fields})


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = _fields(field.message_type) if field.message_type is not None else _SCALARS[field.type]
    return st.lists(one, max_size=3) if field.is_repeated else one
