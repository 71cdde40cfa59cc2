"""Rows followed through changes of their keys."""
from __future__ import annotations

import numpy as np

from engine.model.batch import DELETE, INSERT, UPDATE
from engine.runtime.moves import Bodies, follow

KEYS = "abcdx"


def followed(events: str, present: str = "abc", ours: bool = False) -> Bodies:
    """events: `a>b` a change of key, `+a`, `-a`, `=a` an insert, delete, update."""
    row, op, moved = [], [], []
    for event in events.split():
        if ">" in event:
            row += [KEYS.index(event[0]), KEYS.index(event[2])]
            op += [DELETE, INSERT]
            moved += [True, False]
        else:
            row.append(KEYS.index(event[1]))
            op.append({"+": INSERT, "-": DELETE, "=": UPDATE}[event[0]])
            moved.append(False)
    count = len(row)
    return follow(
        np.array(row), np.array(op, dtype=np.uint8), np.array(moved), np.full(count, ours), np.zeros(count, dtype=np.bool_),
        np.array([key in present for key in KEYS]),
    )  # fmt: skip


def moves(bodies: Bodies) -> dict[str, str]:
    return {KEYS[start]: KEYS[key] for start, key, moved in zip(bodies.start, bodies.key, bodies.moved, strict=True) if moved}


def test_a_row_keeps_its_state_and_leaves_a_tombstone() -> None:
    found = followed("a>d =d")
    assert moves(found) == {"a": "d"}
    assert sorted(zip(found.key.tolist(), found.start.tolist(), strict=True)) == [(0, -1), (3, 0)]
    assert found.op.tolist() == [DELETE, UPDATE, UPDATE] and found.row[1] == found.row[2] != found.row[0]


def test_rows_may_move_after_and_around_each_other() -> None:
    assert moves(followed("c>d b>c a>b")) == {"a": "b", "b": "c", "c": "d"}
    assert moves(followed("a>x b>a x>b")) == {"a": "b", "b": "a"}
    assert moves(followed("a>b b>a")) == {"a": "b", "b": "a"}, "a deferred unique key"
    assert moves(followed("a>x x>a")) == {}
    assert moves(followed("a>x x>d")) == {"a": "d"}


def test_what_is_deleted_or_made_in_between_is_not_mixed_up() -> None:
    replaced = followed("-b a>b")
    assert moves(replaced) == {"a": "b"}
    assert replaced.heir.tolist() == replaced.moved.tolist() == [True, False]
    again = followed("a>d +a")
    assert moves(again) == {"a": "d"}
    assert [op for op, row in zip(again.op.tolist(), again.row.tolist(), strict=True) if again.key[row] == 0] == [DELETE, INSERT]
    assert moves(followed("a>d -d")) == {}
    assert moves(followed("-b +b a>d")) == {"a": "d"}


def test_links_follow_also_what_is_ours_or_not_known() -> None:
    assert followed("a>d", ours=True).pairs == [(0, 3)] and moves(followed("a>d", ours=True)) == {}
    assert followed("x>d d>a", present="").pairs == [(4, 0)]
    assert sorted(followed("a>b b>a").pairs) == [(0, 1), (1, 0)]
