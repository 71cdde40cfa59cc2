"""NumPy arrays, lists of bytes and JSON in one blob: the form of intents and pending writes in the store. Readable without executing anything."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.model.state import Writes

Value = Any


def pack(fields: Mapping[str, Value]) -> bytes:
    """Fields may be arrays, lists of bytes (never lists that begin with bytes and go on otherwise), `Writes`, or anything JSON holds."""
    head: dict[str, Any] = {}
    body: list[bytes] = []
    for name, value in fields.items():
        head[name] = _put(value, body)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(body)


def unpack(blob: bytes | memoryview) -> dict[str, Value]:
    size = int.from_bytes(blob[:8], "little")
    head, place = json.loads(bytes(blob[8 : 8 + size])), [8 + size]
    return {name: _get(spec, blob, place) for name, spec in head.items()}


def _put(value: Value, body: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        body.append(np.ascontiguousarray(value).tobytes())
        return {"array": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, Writes):
        return {"writes": {field: _put(getattr(value, field), body) for field in Writes.__slots__}}
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        sizes = np.fromiter(map(len, value), dtype=np.int32, count=len(value))
        body += [sizes.tobytes(), *value]
        return {"bytes": len(value)}
    return {"json": value}


def _get(spec: Any, blob: bytes | memoryview, place: list[int]) -> Value:
    if "json" in spec:
        return spec["json"]
    if "writes" in spec:
        return Writes(**{field: _get(part, blob, place) for field, part in spec["writes"].items()})
    if "bytes" in spec:
        sizes = np.frombuffer(blob, dtype=np.int32, count=spec["bytes"], offset=place[0])
        ends = place[0] + sizes.nbytes + np.cumsum(sizes, dtype=np.int64)
        starts = ends - sizes
        place[0] = int(ends[-1])
        return [bytes(blob[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    dtype = np.dtype(spec["array"])
    count = int(np.prod(spec["shape"]))
    array = np.frombuffer(blob, dtype=dtype, count=count, offset=place[0]).reshape(spec["shape"]).copy()
    place[0] += count * dtype.itemsize
    return array
