"""One string per key: the key columns' comparable text, joined so that no two keys share a string and each can be taken apart again."""
from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.model.hashing import comparable
from engine.model.types import DataType


def one_array(values: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """The column as a single string array."""
    if isinstance(values, pa.ChunkedArray):
        if values.num_chunks == 1:
            return values.chunk(0)
        return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=pa.string())
    return values


def join_keys(types: Sequence[DataType], columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.StringArray:
    """One string per row; null where a part is null. One column: its text as it is. Several: each as `<characters>:<text>`, one after the
    other."""
    texts = [comparable(kind, one_array(values)) for kind, values in zip(types, columns, strict=True)]
    if len(texts) == 1:
        return texts[0]
    parts = [pc.binary_join_element_wise(pc.cast(pc.utf8_length(text), pa.string()), text, ":") for text in texts]
    return pc.binary_join_element_wise(*parts, "")


def split_key(text: str, count: int) -> tuple[str, ...]:
    """The parts that `join_keys` joined."""
    if count == 1:
        return (text,)
    parts: list[str] = []
    at = 0
    while len(parts) < count:
        colon = text.index(":", at)
        end = colon + 1 + int(text[at:colon])
        parts.append(text[colon + 1 : end])
        at = end
    return tuple(parts)


def key_table(texts: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """The keys as string columns named `columns`, for `Reader.fetch`."""
    rows = [split_key(text, len(columns)) for text in texts]
    return pa.table({name: pa.array([row[i] for row in rows], type=pa.string()) for i, name in enumerate(columns)})
