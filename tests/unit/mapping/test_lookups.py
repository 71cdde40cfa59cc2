"""Reading value maps, and what is said of files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Terminal
from engine.mapping.lookups import read_lookup


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "map.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_text_and_empty_fields_null(tmp_path: Path) -> None:
    lookup = read_lookup("m", write(tmp_path, '\ufeffname,code\n"Čáslav, old",007\nb,\nc,""\n"two\nlines",NA\n'))
    assert lookup.columns == ("name", "code")
    assert lookup.rows.to_pylist() == [
        {"name": "Čáslav, old", "code": "007"},
        {"name": "b", "code": None},
        {"name": "c", "code": ""},
        {"name": "two\nlines", "code": "NA"},
    ]


def test_header_without_rows(tmp_path: Path) -> None:
    lookup = read_lookup("m", write(tmp_path, "name,code\n"))
    assert lookup.columns == ("name", "code") and lookup.rows.num_rows == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"name,code\n\xe9,1\n", "not UTF-8 (line 2)"),
        ("", "is empty"),
        ("name,code,NAME\na,b,c\n", "twice"),
        ("name,\na,b\n", "name every column"),
        ("name,code\na,b,c\n", "another number of fields"),
    ],
)
def test_a_file_that_is_no_lookup_is_told_with_its_name(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(Terminal) as caught:
        read_lookup("m", write(tmp_path, text))
    assert words in caught.value.what
    assert caught.value.where == "lookup m" and caught.value.fix


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="cannot be read"):
        read_lookup("m", tmp_path / "nowhere.csv")
