"""The bulk-load text: escapes, nulls, slices, and every string that a database can send us."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import copytext

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


def plainly(columns: list[list[str | None]]) -> bytes:
    """The same text, written cell by cell."""
    lines = []
    for row in zip(*columns, strict=True):
        cells = ["\\N" if cell is None else "".join(ESCAPES.get(char, char) for char in cell) for cell in row]
        lines.append("\t".join(cells) + "\n")
    return "".join(lines).encode()


def test_null_empty_and_the_text_that_looks_like_null_stay_apart() -> None:
    assert bytes(copytext.encode([pa.array([None, "", "\\N", "N"])])) == b"\\N\n\n\\\\N\nN\n"


def test_the_end_of_data_mark_is_escaped_when_it_is_a_value() -> None:
    assert bytes(copytext.encode([pa.array(["\\."])])) == b"\\\\.\n"


def test_separators_inside_values_are_escaped() -> None:
    assert bytes(copytext.encode([pa.array(["a\tb\nc\rd\0e"]), pa.array(["x"])])) == b"a\\tb\\nc\\rd\\0e\tx\n"


def test_numbers_are_written_as_text_and_binary_as_it_stands() -> None:
    columns = [pa.array([1, None, -3], type=pa.int64()), pa.array([b"\xff", b"\\", None], type=pa.binary())]
    assert bytes(copytext.encode(columns)) == b"1\t\xff\n\\N\t\\\\\n-3\t\\N\n"


def test_a_slice_and_a_chunked_column_give_only_their_rows() -> None:
    whole = pa.array(["one", None, "th\tree", "four", "", "six"])
    assert bytes(copytext.encode([whole.slice(1, 3)])) == b"\\N\nth\\tree\nfour\n"
    assert bytes(copytext.encode([pa.chunked_array([whole.slice(4), whole.slice(0, 1)])])) == b"\nsix\none\n"


def test_no_rows_and_no_columns_are_no_text() -> None:
    assert bytes(copytext.encode([])) == b""
    assert bytes(copytext.encode([pa.array([], type=pa.string())])) == b""


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        copytext.encode([pa.array(["a"]), pa.array(["a", "b"])])


text = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[text] * width), max_size=20)))
def test_any_rows_are_written_as_cell_by_cell(rows: list[tuple[str | None, ...]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]]
    assert bytes(copytext.encode([pa.array(column, type=pa.string()) for column in columns])) == plainly(columns)


@given(st.lists(st.one_of(st.none(), st.text("a\0é", max_size=4)), max_size=30), st.integers(0, 5))
def test_rows_with_a_nul_character_are_found_in_any_slice(values: list[str | None], skip: int) -> None:
    column = pa.array(values, type=pa.string()).slice(skip)
    expected = [row for row, value in enumerate(values[skip:]) if value is not None and "\0" in value]
    assert copytext.with_nul(column).tolist() == expected
