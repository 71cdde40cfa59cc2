"""Keys as single strings: injective, reversible, equal where the values are equal."""
from __future__ import annotations

import pyarrow as pa
import pytest

from engine.model.types import DataType, Kind
from engine.reconcile.keytext import join_keys, key_table, split_key

TEXT = DataType(kind=Kind.TEXT, name="text")
CHAR = DataType(kind=Kind.TEXT, name="char(5)", length=5, padded=True)
NUMERIC = DataType(kind=Kind.DECIMAL, name="numeric")


def strings(*values: str | None) -> pa.StringArray:
    return pa.array(values, type=pa.string())


def test_one_column_is_its_own_text() -> None:
    assert join_keys([TEXT], [strings("a", "1:a", None)]).to_pylist() == ["a", "1:a", None]


@pytest.mark.parametrize("key", [("a", "b"), ("", ""), ("1:a", "2:bb"), ("ä€😀", "x"), ("a\x00b", "\n"), ("3", ":")])
def test_several_columns_come_apart_again(key: tuple[str, str]) -> None:
    joined = join_keys([TEXT, TEXT], [strings(key[0]), strings(key[1])])[0].as_py()
    assert split_key(joined, 2) == key


def test_different_keys_never_share_a_string() -> None:
    left = strings("a", "ab", "", "a1:", "a")
    right = strings("bc", "c", "abc", "bc", "1:bc")
    assert len(set(join_keys([TEXT, TEXT], [left, right]).to_pylist())) == 5


def test_a_null_part_makes_the_key_null() -> None:
    assert join_keys([TEXT, TEXT], [strings("a", None), strings(None, "b")]).to_pylist() == [None, None]


def test_equal_values_of_padded_and_unbounded_types_share_a_string() -> None:
    assert join_keys([CHAR], [strings("ab   ")]).to_pylist() == join_keys([CHAR], [strings("ab")]).to_pylist()
    assert join_keys([NUMERIC], [strings("1.50")]).to_pylist() == join_keys([NUMERIC], [strings("1.5")]).to_pylist()


def test_chunked_columns_are_read_whole() -> None:
    chunked = pa.chunked_array([["a"], ["b", "c"], []], type=pa.string())
    assert join_keys([TEXT], [chunked]).to_pylist() == ["a", "b", "c"]
    assert join_keys([TEXT], [pa.chunked_array([], type=pa.string())]).to_pylist() == []


def test_keys_as_a_table_to_fetch_by() -> None:
    joined = join_keys([TEXT, TEXT], [strings("a", "b"), strings("1", "2")]).to_pylist()
    assert key_table(joined, ("x", "y")).to_pydict() == {"x": ["a", "b"], "y": ["1", "2"]}
